"""Several GPUs, one process each: gradients averaged over NCCL, decisions shared over gloo.

Start with `python3 -m torch.distributed.run --nproc_per_node N train.py ...`; without it
everything here does nothing. Weights stay equal because every process takes the same
steps; share() mends what rounding may have parted.
"""
import os

RANK, SIZE = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
_control = None


def begin(device):
    """The device of this process."""
    global _control
    if SIZE == 1:
        return device
    import torch
    import torch.distributed as dist
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    _control = dist.new_group(backend="gloo")
    return device


def agreed(value):
    """The largest value of all processes: when to stop is one decision."""
    if SIZE == 1:
        return value
    import torch
    import torch.distributed as dist
    t = torch.tensor([float(value)], dtype=torch.float64)
    dist.all_reduce(t, dist.ReduceOp.MAX, group=_control)
    return t.item()


def average(params):
    """Gradients of params, averaged."""
    if SIZE == 1:
        return
    import torch
    import torch.distributed as dist
    grads = [p.grad for p in params if p.grad is not None]
    flat = torch._utils._flatten_dense_tensors(grads)
    dist.all_reduce(flat)
    flat /= SIZE
    for g, f in zip(grads, torch._utils._unflatten_dense_tensors(flat, grads)):
        g.copy_(f)


def total(t):
    if SIZE > 1:
        import torch.distributed as dist
        dist.all_reduce(t)
    return t


def share(m):
    """Every process gets the first one's weights."""
    if SIZE > 1:
        import torch.distributed as dist
        for t in m.state_dict().values():
            dist.broadcast(t, 0)
