from .op import backends, exact_attention, joint_attention, merge_attention, packed_attention

__all__ = ["backends", "exact_attention", "joint_attention", "merge_attention", "packed_attention"]
