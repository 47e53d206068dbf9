"""Lets a torchvision built for CUDA be imported beside a torch built for the CPU.

Its compiled part does not load there, so two operators that its Python part describes are missing; they are declared
here, without an implementation, just before torchvision is imported. Image and video transforms need neither.
bootstrap.py puts this module into an environment where torchvision fails for that reason, and nowhere else.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder


class DeclareOperators(MetaPathFinder):
    """Watches for the first import of torchvision; finds no module itself."""

    library = None

    def find_spec(self, fullname, path=None, target=None):
        """Declare the operators once torchvision is asked for."""
        if fullname == "torchvision" and DeclareOperators.library is None:
            import torch

            DeclareOperators.library = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                if not hasattr(torch.ops.torchvision, name):
                    self.library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return None


sys.meta_path.insert(0, DeclareOperators())
