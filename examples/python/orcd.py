"""orcd.h for Python, with nothing but ctypes: Context, Model, Generation. Errors are OrcdError.

The library is found through ORCD_LIBRARY (a path), else as liborcd.so.0 where the system looks. Calls give the
interpreter's lock back while they wait, so other threads go on; everything may be used from any thread.
"""

import ctypes
import os
from ctypes import POINTER, byref, c_char, c_char_p, c_double, c_float, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Iterator, NamedTuple

OK, CANCELLED, INVALID_HANDLE, BUFFER_TOO_SMALL, NOT_READY, END = 0, 7, 101, 103, 104, 105
NO_TOKEN = -1
TOKENIZE_BOS, TOKENIZE_SPECIAL, DETOKENIZE_SPECIAL = 1, 2, 1
STOP_REASONS = ("eos", "max_tokens", "stop", "context")
_TICK_MS = 100  # how soon a waiting thread notices Ctrl-C


class _Struct(ctypes.Structure):
    """Says its size, as every struct of orcd.h does."""

    def __init__(self, **fields):
        super().__init__(ctypes.sizeof(self), **fields)

    def as_dict(self) -> dict:
        values = {name: getattr(self, name) for name, *_ in self._fields_ if name not in ("struct_size", "reserved")}
        return {name: value.decode("utf-8") if isinstance(value, bytes) else value for name, value in values.items()}


def _fields(**types):
    return [("struct_size", c_uint32), *types.items()]


class ErrorInfo(_Struct):
    _fields_ = _fields(status=c_int32, message=c_char_p, hint=c_char_p, retriable=c_uint32, reserved=c_uint32)


class DeviceInfo(_Struct):
    _fields_ = _fields(usable=c_uint32, total_bytes=c_uint64, free_bytes=c_uint64, driver_overhead_bytes=c_uint64,
                       n_threads=c_uint32, cuda_runtime_version=c_int32, name=c_char * 32, isa=c_char * 32,
                       description=c_char * 256, refusal=c_char * 512)


class ProcessMemory(_Struct):
    _fields_ = _fields(n_models=c_uint32, resident_bytes=c_uint64, peak_resident_bytes=c_uint64, virtual_bytes=c_uint64,
                       device_bytes=c_uint64, pinned_host_bytes=c_uint64)


class ModelOptions(_Struct):
    _fields_ = _fields(n_threads=c_uint32, path=c_char_p, device=c_char_p, tokenizer_path=c_char_p, context_tokens=c_uint32,
                       n_slots=c_uint32, batch_tokens=c_uint32, max_queue=c_uint32, budget_bytes=c_uint64,
                       kv_cache_bytes=c_uint64)


_CATEGORIES = {f"{name}_bytes": c_uint64 for name in ("weights", "kv", "activations", "sampling", "staging", "graphs")}


class Plan(_Struct):
    _fields_ = _fields(fits=c_uint32, total_bytes=c_uint64, available_bytes=c_uint64, free_bytes=c_uint64, **_CATEGORIES,
                       pinned_host_bytes=c_uint64, max_context_tokens=c_uint32, context_tokens=c_uint32, n_slots=c_uint32,
                       n_kv_pages=c_uint32)


class ModelInfo(_Struct):
    _fields_ = _fields(vocab_size=c_uint32, trained_context_tokens=c_uint32, context_tokens=c_uint32, n_slots=c_uint32,
                       n_kv_pages=c_uint32, bos_token=c_int32, eos_token=c_int32, digest=c_char * 40, device=c_char * 32,
                       architecture=c_char * 32, quant_kind=c_char * 32, tokenizer_kind=c_char * 32, name=c_char * 256)


class ModelMemory(_Struct):
    _fields_ = _fields(reserved=c_uint32, total_bytes=c_uint64, planned_bytes=c_uint64, **_CATEGORIES,
                       pinned_host_bytes=c_uint64)


class ModelHealth(_Struct):
    _fields_ = _fields(healthy=c_uint32, n_running=c_uint32, n_waiting=c_uint32, n_kv_pages_used=c_uint64,
                       n_tokens_generated=c_uint64, n_complete=c_uint64, n_failed=c_uint64, n_cancelled=c_uint64,
                       reason=c_char * 512)


class Residency(_Struct):
    _fields_ = _fields(resident=c_uint32, checked_bytes=c_uint64, pointer_type=c_char * 16, digest=c_char * 40,
                       expected_digest=c_char * 40, first_mismatch=c_char * 256)


class GenerationOptions(_Struct):
    _fields_ = _fields(max_tokens=c_uint32, temperature=c_float, top_p=c_float, min_p=c_float, repetition_penalty=c_float,
                       top_k=c_uint32, has_seed=c_uint32, seed=c_uint64, stop=POINTER(c_char_p), n_stop=c_uint32,
                       timeout_ms=c_uint32, flags=c_uint32, reserved=c_uint32)


class TokenInfo(_Struct):
    _fields_ = _fields(id=c_int32, index=c_uint32, reserved=c_uint32)


class GenerationResult(_Struct):
    _fields_ = _fields(stop_reason=c_uint32, n_prompt_tokens=c_uint32, n_tokens=c_uint32, seed=c_uint64, queue_ms=c_double,
                       prefill_ms=c_double, first_token_ms=c_double, decode_ms=c_double, numerics_version=c_uint32,
                       reserved=c_uint32, model_digest=c_char * 40, logits_digest=c_char * 40, stop_text=c_char * 256)


_lib = ctypes.CDLL(os.environ.get("ORCD_LIBRARY", "liborcd.so.0"))
for _name, _arguments in {
    "last_error": (c_void_p, POINTER(ErrorInfo)),
    "status_name": (c_int32, POINTER(c_char_p)),
    "context_create": (POINTER(c_void_p),),
    "context_destroy": (c_void_p,),
    "device_count": (c_void_p, POINTER(c_uint32)),
    "device_get_info": (c_void_p, c_uint32, POINTER(DeviceInfo)),
    "process_get_memory": (c_void_p, POINTER(ProcessMemory)),
    "model_plan": (c_void_p, POINTER(ModelOptions), POINTER(Plan)),
    "model_load": (c_void_p, POINTER(ModelOptions), POINTER(c_void_p)),
    "model_unload": (c_void_p,),
    "model_get_info": (c_void_p, POINTER(ModelInfo)),
    "model_get_memory": (c_void_p, POINTER(ModelMemory)),
    "model_get_health": (c_void_p, POINTER(ModelHealth)),
    "model_check_residency": (c_void_p, POINTER(Residency)),
    "tokenize": (c_void_p, c_char_p, c_size_t, c_uint32, POINTER(c_int32), c_size_t, POINTER(c_size_t)),
    "detokenize": (c_void_p, POINTER(c_int32), c_size_t, c_uint32, c_char_p, c_size_t, POINTER(c_size_t)),
    "generation_options_init": (POINTER(GenerationOptions), c_uint32),
    "generation_start": (c_void_p, c_char_p, c_size_t, POINTER(GenerationOptions), POINTER(c_void_p)),
    "generation_start_tokens": (c_void_p, POINTER(c_int32), c_size_t, POINTER(GenerationOptions), POINTER(c_void_p)),
    "generation_next_token": (c_void_p, c_uint32, POINTER(TokenInfo), c_char_p, c_size_t, POINTER(c_size_t)),
    "generation_cancel": (c_void_p,),
    "generation_get_result": (c_void_p, POINTER(GenerationResult)),
    "generation_free": (c_void_p,),
}.items():
    getattr(_lib, f"orcd_{_name}").argtypes = _arguments
    getattr(_lib, f"orcd_{_name}").restype = c_int32


class OrcdError(Exception):
    """A call that failed: status (a number), name ("ORCD_STATUS_..."), message, hint, retriable."""

    def __init__(self, status: int):
        info, name = ErrorInfo(), c_char_p(b"")
        _lib.orcd_last_error(None, byref(info))
        _lib.orcd_status_name(status, byref(name))
        self.status, self.name, self.retriable = status, name.value.decode(), bool(info.retriable)
        self.message, self.hint = info.message.decode("utf-8", "replace"), info.hint.decode("utf-8", "replace")
        super().__init__(f"{self.name}: {self.message}; {self.hint}")


def _check(status: int) -> None:
    if status != OK:
        raise OrcdError(status)


class _Owner:
    """A handle that is freed once: by close(), by the end of a `with` block, or with the object."""

    _free = None  # name of the function

    def __init__(self, handle: c_void_p, parent: "_Owner | None" = None):
        self._handle, self._parent = handle, parent  # the parent stays alive as long as this does

    def close(self) -> None:
        handle, self._handle = getattr(self, "_handle", None), None
        if handle:
            status = getattr(_lib, self._free)(handle)
            if status not in (OK, INVALID_HANDLE):  # invalid: its parent was closed before, and took it along
                raise OrcdError(status)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()

    def _get(self, function: str, result: _Struct) -> dict:
        _check(getattr(_lib, function)(self._handle, byref(result)))
        return result.as_dict()


class Token(NamedTuple):
    id: int | None  # None: text that belongs to no token
    text: str


class Generation(_Owner):
    """Iterate over it for its tokens; result() once it is complete."""

    _free = "orcd_generation_free"

    def __iter__(self) -> Iterator[Token]:
        token, n, buffer = TokenInfo(), c_size_t(), ctypes.create_string_buffer(256)
        while True:
            status = _lib.orcd_generation_next_token(self._handle, _TICK_MS, byref(token), buffer, len(buffer), byref(n))
            if status == END:
                return
            if status == BUFFER_TOO_SMALL:
                buffer = ctypes.create_string_buffer(n.value + 1)
            elif status != NOT_READY:
                _check(status)
                yield Token(None if token.id == NO_TOKEN else token.id, buffer.raw[: n.value].decode("utf-8"))

    def cancel(self) -> None:
        _check(_lib.orcd_generation_cancel(self._handle))

    def result(self) -> dict:
        result = self._get("orcd_generation_get_result", GenerationResult())
        result["stop_reason"] = STOP_REASONS[result["stop_reason"]]
        return result


class Model(_Owner):
    _free = "orcd_model_unload"

    def start(self, prompt: "str | list[int]", *, stop: "list[str]" = (), seed: "int | None" = None, **options) -> Generation:
        """options: the fields of orcd_generation_options. prompt: text, or ids that are taken as they are."""
        wanted, handle = GenerationOptions(), c_void_p()
        _check(_lib.orcd_generation_options_init(byref(wanted), ctypes.sizeof(wanted)))
        for name, value in options.items():
            if name not in dict(GenerationOptions._fields_):
                raise TypeError(f"unknown option {name}")
            setattr(wanted, name, value)
        if seed is not None:
            wanted.has_seed, wanted.seed = 1, seed
        texts = (c_char_p * max(1, len(stop)))(*(text.encode("utf-8") for text in stop))
        wanted.stop, wanted.n_stop = texts, len(stop)
        if isinstance(prompt, str):
            data = prompt.encode("utf-8")
            _check(_lib.orcd_generation_start(self._handle, data, len(data), byref(wanted), byref(handle)))
        else:
            ids = (c_int32 * max(1, len(prompt)))(*prompt)
            _check(_lib.orcd_generation_start_tokens(self._handle, ids, len(prompt), byref(wanted), byref(handle)))
        return Generation(handle, self)

    def tokenize(self, text: str, *, bos: bool = False, special: bool = False) -> "list[int]":
        data, n = text.encode("utf-8"), c_size_t()
        flags = TOKENIZE_BOS * bos | TOKENIZE_SPECIAL * special
        status = _lib.orcd_tokenize(self._handle, data, len(data), flags, None, 0, byref(n))
        if status not in (OK, BUFFER_TOO_SMALL):
            _check(status)
        ids = (c_int32 * max(1, n.value))()
        _check(_lib.orcd_tokenize(self._handle, data, len(data), flags, ids, n.value, byref(n)))
        return list(ids[: n.value])

    def detokenize(self, tokens: "list[int]", *, special: bool = False) -> bytes:
        """Bytes, since the tokens may hold a part of a character only."""
        ids, n = (c_int32 * max(1, len(tokens)))(*tokens), c_size_t()
        flags = DETOKENIZE_SPECIAL * special
        status = _lib.orcd_detokenize(self._handle, ids, len(tokens), flags, None, 0, byref(n))
        if status not in (OK, BUFFER_TOO_SMALL):
            _check(status)
        buffer = ctypes.create_string_buffer(n.value + 1)
        _check(_lib.orcd_detokenize(self._handle, ids, len(tokens), flags, buffer, len(buffer), byref(n)))
        return buffer.raw[: n.value]

    def info(self) -> dict:
        return self._get("orcd_model_get_info", ModelInfo())

    def memory(self) -> dict:
        return self._get("orcd_model_get_memory", ModelMemory())

    def health(self) -> dict:
        return self._get("orcd_model_get_health", ModelHealth())

    def check_residency(self) -> dict:
        return self._get("orcd_model_check_residency", Residency())


class Context(_Owner):
    _free = "orcd_context_destroy"

    def __init__(self):
        handle = c_void_p()
        _check(_lib.orcd_context_create(byref(handle)))
        super().__init__(handle)

    def devices(self) -> "list[dict]":
        count = c_uint32()
        _check(_lib.orcd_device_count(self._handle, byref(count)))
        infos = [DeviceInfo() for _ in range(count.value)]
        for index, info in enumerate(infos):
            _check(_lib.orcd_device_get_info(self._handle, index, byref(info)))
        return [info.as_dict() for info in infos]

    @staticmethod
    def _options(path, device: str, tokenizer_path, limits: dict) -> ModelOptions:
        tokenizer = os.fsencode(tokenizer_path) if tokenizer_path else None
        return ModelOptions(path=os.fsencode(path), device=device.encode(), tokenizer_path=tokenizer, **limits)

    def plan(self, path, device: str, tokenizer_path=None, **limits) -> dict:
        """limits: the other fields of orcd_model_options."""
        plan = Plan()
        _check(_lib.orcd_model_plan(self._handle, byref(self._options(path, device, tokenizer_path, limits)), byref(plan)))
        return plan.as_dict()

    def load(self, path, device: str, tokenizer_path=None, **limits) -> Model:
        handle = c_void_p()
        options = self._options(path, device, tokenizer_path, limits)
        _check(_lib.orcd_model_load(self._handle, byref(options), byref(handle)))
        return Model(handle, self)

    def process_memory(self) -> dict:
        return self._get("orcd_process_get_memory", ProcessMemory())
