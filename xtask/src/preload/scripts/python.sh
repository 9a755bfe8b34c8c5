cat > work.py <<'END'
import ctypes
import gc
import hashlib
import json
import multiprocessing
import os
import sys
import threading

SCALE = int(os.environ["SCALE"])


def must_be_loaded():
    library = os.environ.get("LD_PRELOAD")
    if library and library not in open("/proc/self/maps").read():
        sys.exit("python runs without " + library)


def work(number):
    must_be_loaded()
    table = {i: str(i * number) * 3 for i in range(2000)}
    return sum(len(word) for word in table.values())


def pools():
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        with context.Pool(3) as pool:
            print(method, sum(pool.map(work, range(30 * SCALE))))
        queue = context.Queue()
        process = context.Process(target=fill, args=(queue,))
        process.start()
        print(method, sum(len(queue.get()) for _ in range(100)))
        process.join()
        print(method, process.exitcode)


def fill(queue):
    for i in range(100):
        queue.put("x" * i * 100)


def churn():
    digest = hashlib.sha256()
    for round in range(3 * SCALE):
        data = [{"id": i, "words": ["w%d" % j for j in range(i % 20)], "half": i / 2}
                for i in range(3000)]
        text = json.dumps(data, sort_keys=True)
        digest.update(text.encode())
        again = json.loads(text)
        assert again == data
        again.sort(key=lambda item: (len(item["words"]), -item["id"]))
        digest.update(repr(again[::100]).encode())
    print("json", digest.hexdigest()[:16])
    grown = bytearray()
    for i in range(20000 * SCALE):
        grown += i.to_bytes(8, "little")
    print("bytes", hashlib.sha256(grown).hexdigest()[:16])


def threads():
    results = [None] * 8

    def run(index):
        lists = [[j] * (j % 100) for j in range(20000)]
        results[index] = sum(map(len, lists))

    running = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    print("threads", results)


def library():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = libc.realloc.restype = ctypes.c_void_p
    libc.malloc_usable_size.restype = ctypes.c_size_t
    for size in (0, 1, 100, 5000, 300000, 5 << 20):
        block = libc.malloc(ctypes.c_size_t(size))
        assert block and libc.malloc_usable_size(ctypes.c_void_p(block)) >= size
        ctypes.memset(block, 7, size)
        block = libc.realloc(ctypes.c_void_p(block), ctypes.c_size_t(size * 2 + 1))
        assert bytes(ctypes.string_at(block, size)) == b"\7" * size
        libc.free(ctypes.c_void_p(block))
    print("ctypes done")


def recycle():
    class Node:
        pass

    for _ in range(20000 * SCALE):
        one, other = Node(), Node()
        one.other, other.other = other, one
    gc.collect()
    print("cycles done")


if __name__ == "__main__":
    must_be_loaded()
    for part in (pools, churn, threads, library, recycle):
        part()
        sys.stdout.flush()
END
python3 work.py
echo "every object in a block of malloc's"
PYTHONMALLOC=malloc python3 work.py
