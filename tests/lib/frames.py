"""zstd frames without a zstd module."""
import ctypes
import ctypes.util

from checks import Skip, must


def _zstd_block(kind, last, size, data):
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + data


def zstd_raw(data):
    """A zstd frame of stored blocks."""
    parts = [data[i:i + 131072] for i in range(0, len(data), 131072)] or [b""]
    blocks = [_zstd_block(0, i == len(parts) - 1, len(p), p) for i, p in enumerate(parts)]
    return b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little") + b"".join(blocks)


def zstd_rle(byte, count, prefix=b"", suffix=b""):
    """A small zstd frame that inflates to prefix + count times 128 KiB of one byte + suffix; no size is declared."""
    blocks = [_zstd_block(0, 0, len(prefix), prefix)] if prefix else []
    blocks += [_zstd_block(1, 0, 131072, byte)] * count
    return b"\x28\xb5\x2f\xfd\x00\x38" + b"".join(blocks) + _zstd_block(0, 1, len(suffix), suffix)


def unzstd(data):
    """Inflates a zstd frame with the system's library."""
    name = ctypes.util.find_library("zstd") or "libzstd.so.1"
    try:
        lib = ctypes.CDLL(name)
    except OSError:
        raise Skip("no libzstd to check with") from None
    lib.ZSTD_decompress.restype = ctypes.c_size_t
    lib.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    out = ctypes.create_string_buffer(64 << 20)
    n = lib.ZSTD_decompress(out, len(out), data, len(data))
    must(n <= len(out), "zstd answer does not inflate")
    return out.raw[:n]
