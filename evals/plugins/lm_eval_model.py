"""lm-eval plug-in: text tasks answered from a packed cache.

lm-eval finds models that have been registered by an import, so it is started through this module:

    python -m oscar_x.evals.plugins.lm_eval_model run --model oscar-x --model_args pretrained=... --tasks ...

Log-likelihoods are taken in two phases: the context is read and packed whole, then the continuation is scored against
it. A plain forward pass over both, as for other models, would never read a packed token.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils_hf import stop_sequences_criteria
from tqdm import tqdm

from ...cache import OscarCache
from ...prompts import tokenizer_of
from .settings import load_model

PIECE = 256  # continuation tokens of a forward pass: those of earlier passes are read as the cache keeps them

Request = tuple[Any, list[int], list[int]]


@register_model("oscar-x", "oscar_x")
class OscarX(HFLM):
    """A causal language model that generates from, and is scored against, a packed cache.

    Args:
        pretrained: as oscar_x.load takes it.
        kv_bits, key_bits, value_bits, preset, profile, dtype, backend: as oscar_x.load.
        batch_size: of generation; log-likelihoods are taken one by one.
    """

    def __init__(
        self,
        pretrained: str,
        *,
        device: str | None = None,
        batch_size: int | str = 1,
        max_length: int | None = None,
        **arguments: Any,
    ) -> None:
        unused = ("max_batch_size", "trust_remote_code")  # lm-eval says them of every model
        given = {name: value for name, value in arguments.items() if name not in unused and value is not None}
        self.oscar = load_model(pretrained, {**given, "device": device})
        self.packed_reads = 0
        super().__init__(
            pretrained=self.oscar.model,
            tokenizer=tokenizer_of(self.oscar.processor),
            backend="causal",
            batch_size=int(batch_size),
            max_length=max_length,
        )

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **generation_kwargs: Any
    ) -> torch.Tensor:
        temperature = generation_kwargs.pop("temperature", 0.0)
        sample = generation_kwargs.pop("do_sample", None)
        sample = temperature > 0 if sample is None else sample
        cache = self.oscar.new_cache()
        tokens = self.oscar.generate(
            {"input_ids": context, "attention_mask": generation_kwargs.pop("attention_mask", None)},
            past_key_values=cache,
            max_length=max_length,
            stopping_criteria=stop_sequences_criteria(self.tokenizer, stop, context.shape[1], context.shape[0]),
            **({"do_sample": True, "temperature": temperature} if sample else {"do_sample": False}),
            **generation_kwargs,
        )
        self.packed_reads += cache.packed_reads
        return tokens

    @torch.inference_mode()
    def _loglikelihood_tokens(
        self, requests: Sequence[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Log-likelihood of each continuation, and whether greedy decoding would say it."""
        found: dict[int, tuple[float, bool]] = {}
        order = sorted(range(len(requests)), key=lambda number: requests[number][1])
        held: tuple[list[int], OscarCache] | None = None
        for number in tqdm(order, disable=disable_tqdm, desc="Log-likelihoods"):
            name, context, continuation = requests[number]
            context, continuation = self._fit(context, continuation)
            if held is None or held[0] != context:
                held = (context, self._packed(context[:-1]))
            found[number] = self._score(
                held[1].fork() if len(context) > 1 else self.oscar.new_cache(), context, continuation
            )
            if name is not None:
                self.cache_hook.add_partial("loglikelihood", name, found[number])
        return [found[number] for number in range(len(requests))]

    def _fit(self, context: list[int], continuation: list[int]) -> tuple[list[int], list[int]]:
        """The newest tokens that the model reads; as HFLM, the last token of the continuation needs no place."""
        room = self.max_length + 1 - len(continuation)
        if room < 1:
            raise ValueError(
                f"a continuation has {len(continuation)} tokens, but the model reads {self.max_length} in all"
            )
        return list(context)[-room:], list(continuation)

    def _packed(self, tokens: list[int]) -> OscarCache:
        cache = self.oscar.new_cache()
        if tokens:
            self._forward(cache, tokens)
            cache.flush()
        return cache

    def _score(self, cache: OscarCache, context: list[int], continuation: list[int]) -> tuple[float, bool]:
        before = cache.packed_reads
        tokens, total, greedy = [context[-1], *continuation[:-1]], 0.0, True
        for start in range(0, len(tokens), PIECE):
            rows = self._forward(cache, tokens[start : start + PIECE]).float().log_softmax(-1)
            wanted = torch.tensor(continuation[start : start + PIECE], device=rows.device)
            total += float(rows.gather(1, wanted[:, None]).sum())
            greedy = greedy and bool((rows.argmax(-1) == wanted).all())
        self.packed_reads += cache.packed_reads - before
        return total, greedy

    def _forward(self, cache: OscarCache, tokens: list[int]) -> torch.Tensor:
        ids = torch.tensor([tokens], device=self.device)
        return self.oscar.generator(input_ids=ids, past_key_values=cache, use_cache=True).logits[0]


def main() -> None:
    """lm-eval's own command line, with this model known to it."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    # run as a program this module has another name than the one it registers itself under
    sys.modules.setdefault("oscar_x.evals.plugins.lm_eval_model", sys.modules["__main__"])
    main()
