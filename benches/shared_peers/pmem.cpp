// libpmemobj: a pool file in the memory of the machine, and its atomic calls, which leave a block
// either allocated and named by a place in the pool, or not allocated. The places lie in the pool's
// root. One process has a pool at a time.
//
// PMEM_IS_PMEM_FORCE=1 in the environment makes it write lines back instead of calling msync.

#include <cstdlib>
#include <string>

#include <libpmemobj.h>

#include "crew.hpp"

namespace {

constexpr std::size_t POOL_BYTES = 256u << 20;

class Heap {
public:
    static constexpr bool SHARES = false;
    static constexpr bool THREADS = false;
    using Place = PMEMoid;

    Heap(unsigned, std::size_t count)
        : file("/dev/shm/tierpool-bench-" + std::to_string(getpid())) {
        unlink(file.c_str());
        pool = pmemobj_create(file.c_str(), "bench", POOL_BYTES, 0600);
        if (!pool) throw std::runtime_error(pmemobj_errormsg());
        root = pmemobj_root(pool, count * sizeof(Place));
        if (OID_IS_NULL(root)) throw std::runtime_error(pmemobj_errormsg());
    }

    ~Heap() { pmemobj_close(pool); }

    // It is mapped; nothing is left behind whatever happens.
    void hide() { unlink(file.c_str()); }

    Place* places() { return static_cast<Place*>(pmemobj_direct(root)); }
    void take(Place& place, std::size_t bytes) {
        if (pmemobj_alloc(pool, &place, bytes, 0, nullptr, nullptr) != 0)
            throw std::runtime_error(pmemobj_errormsg());
    }
    void give_back(Place& place) { pmemobj_free(&place); }
    void* at(const Place& place) { return pmemobj_direct(place); }
    void note_pages(Board& board) { board.note_pages(pool, POOL_BYTES); }

    // The places are the program's, not the heap's.
    static std::uint64_t held_bytes(const Board& board, const Plan& plan) {
        const std::size_t count = Work<Heap, false>::places_of(plan);
        const std::uint64_t all = board.pages_bytes(), own = count * sizeof(Place);
        return all > own ? all - own : 0;
    }

private:
    std::string file;
    PMEMobjpool* pool;
    PMEMoid root;
};

}  // namespace

int main(int count, char** words) { return serve<Heap>(count, words); }
