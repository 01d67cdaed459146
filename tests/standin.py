"""A stand-in for a GPU: tensors that say they lie on another device, while the
processor computes them. What mixes both devices fails here as it would on a GPU, in the
forward and the backward pass, in scores and figures.

Once it is imported, as startup.py does in a notebook's kernel, it is the accelerator
that torch names, and so medlib's device. Unlike on a GPU, net.to(device) makes new
parameters: an optimizer that was made before it goes on with the old ones.
"""

import os

import torch
from torch._utils import _rebuild_device_tensor_from_cpu_tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

aten = torch.ops.aten
CPU = torch.device("cpu")
COPIES = {aten.copy_.default, aten._to_copy.default}  # between the devices
# The indices may lie on the processor.
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
# A tensor of the processor without axes will do, except in these and where it is
# written.
TOGETHER = "cat stack embedding equal gather index_select nll_loss_forward take"
FLOATS = """mm bmm addmm mv dot convolution avg_pool2d avg_pool3d
max_pool2d_with_indices max_pool3d_with_indices"""
TOGETHER, FLOATS = (
    {getattr(aten, name).default for name in names.split()}
    for names in (TOGETHER, FLOATS)
)


class Backend:
    """What torch asks a kind of device."""

    is_available = is_initialized = staticmethod(lambda: True)
    _is_in_bad_fork = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    manual_seed_all = staticmethod(
        lambda seed: None
    )  # torch seeds the processor, which computes
    get_rng_state = staticmethod(lambda device=None: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, device=None: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16])


class There(torch.Tensor):
    """A tensor on the stand-in; `here` holds its numbers."""

    @staticmethod
    def __new__(cls, here):
        layout = {
            "strides": here.stride(),
            "storage_offset": here.storage_offset(),
            "dtype": here.dtype,
        }
        there = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, **layout, device=DEVICE
        )
        there.here = here
        return there

    def __repr__(self):
        return repr(self.here)

    def __format__(self, form):
        return format(self.here, form)

    def __reduce_ex__(self, protocol):  # torch.save
        parts = self.here, self.dtype, str(DEVICE), self.requires_grad
        return _rebuild_device_tensor_from_cpu_tensor, parts

    def tolist(self):
        return self.here.tolist()

    @property
    def data(self):
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, value):  # as module.double() does
        torch.Tensor.data.__set__(self, value)
        self.here = value.here

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), options=None):
        options = options or {}
        check(function, args, options)
        target = options.get("device")
        leaves = target and torch.device(target).type != DEVICE.type
        arguments, keywords = pytree.tree_map_only(There, numbers, (args, options))
        found = function(
            *arguments, **keywords | ({"device": CPU} if target and not leaves else {})
        )
        if function is aten.copy_.default and not isinstance(args[0], There):
            return args[0]
        if leaves:
            return found
        found = pytree.tree_map_only(torch.Tensor, There, found)
        found = return_and_correct_aliasing(function, args, options, found)
        for there in pytree.tree_leaves((args, options)):
            if isinstance(there, There) and there.shape != there.here.shape:
                raise NotImplementedError(
                    f"{function}: a tensor on the stand-in cannot change its size"
                )
        return found


def numbers(tensor):
    return tensor.here if isinstance(tensor, There) else tensor


def check(function, args, options):
    """RuntimeError where a GPU would refuse tensors of the processor."""
    if function in COPIES:
        return
    if function in INDEXED:  # what is written, and where
        args, options = (args[0], *args[2:]), {}
    tensors = [
        t for t in pytree.tree_leaves((args, options)) if isinstance(t, torch.Tensor)
    ]
    if function in FLOATS and tensors[0].dtype in (torch.uint8, torch.int, torch.long):
        raise RuntimeError(f"{function}: a GPU has no kernel for {tensors[0].dtype}")
    generator, strict = options.get("generator"), function in TOGETHER
    written = args[0] if args and function._schema.is_mutable else None
    here = [t for t in tensors if not isinstance(t, There)]
    if (generator and generator.device == CPU) or any(
        t.ndim or strict or t is written for t in here
    ):
        raise RuntimeError(
            f"{function}: expected all tensors on one device, found some on {DEVICE} "
            "and some on cpu"
        )


def makes(operator):
    """A kernel that makes a tensor out of no other."""

    def kernel(*args, device=None, layout=None, pin_memory=None, **options):
        check(operator, args, options)
        return There(operator(*args, **options, device=CPU))

    return kernel


def copy_from(source, target, non_blocking=False):
    numbers(target).copy_(numbers(source))
    return target


def gru_cell(inputs, hidden, h, *biases):
    """On other devices torch makes a GRU's step in one kernel; its second answer is for
    its own backward pass.
    """
    if biases and biases[0] is not None:
        inputs, hidden = inputs + biases[0], hidden + biases[1]
    i, g = inputs.chunk(3, 1), hidden.chunk(3, 1)
    reset, update = (i[0] + g[0]).sigmoid(), (i[1] + g[1]).sigmoid()
    new = (i[2] + reset * g[2]).tanh()
    return new + update * (h - new), h


_setup_privateuseone_for_python_backend("standin", backend_module=Backend())
DEVICE = torch.device("standin", 0)
os.environ["MEDLIB_PRECISION"] = "no"  # torch knows no autocast for it
library = torch.library.Library("aten", "IMPL")
library.impl("_copy_from", copy_from, "PrivateUse1")
library.impl("_thnn_fused_gru_cell", gru_cell, "AutogradPrivateUse1")
# torch.tensor([loss, loss])
library.impl("_local_scalar_dense", lambda there: there.here.item(), "PrivateUse1")
MAKERS = """arange arange.start arange.start_step empty.memory_format empty_strided eye
eye.m fft_fftfreq full linspace randperm randperm.generator scalar_tensor tril_indices
triu_indices"""
for name in MAKERS.split():
    packet, _, overload = name.partition(".")
    library.impl(
        name,
        makes(getattr(getattr(aten, packet), overload or "default")),
        "PrivateUse1",
    )
