// mimalloc, in private memory of one process: not a shared heap, but the ceiling for one. Where
// others have two processes, it has two threads.

#include <fstream>
#include <string>

#include <mimalloc.h>

#include "crew.hpp"

namespace {

// What the process has in memory, without what it shares with others.
std::uint64_t anonymous_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
        if (line.rfind("RssAnon:", 0) == 0) return std::stoull(line.substr(8)) * 1024;
    throw std::runtime_error("no RssAnon");
}

class Heap {
public:
    static constexpr bool SHARES = true;
    static constexpr bool THREADS = true;
    using Place = void*;

    Heap(unsigned, std::size_t count) {
        // Where they do not count as the heap's.
        void* at = mmap(nullptr, count * sizeof(Place), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (at == MAP_FAILED) throw std::bad_alloc();
        own = static_cast<Place*>(at);
    }

    void hide() {}

    Place* places() { return own; }
    void take(Place& place, std::size_t bytes) {
        place = mi_malloc(bytes);
        if (!place) throw std::bad_alloc();
    }
    void give_back(Place& place) { mi_free(place); }
    void* at(const Place& place) { return place; }
    std::uint64_t name(const Place& place) { return std::uintptr_t(place); }
    void adopt(Place& place, std::uint64_t name) { place = reinterpret_cast<void*>(name); }
    void note_pages(Board& board) { board.private_bytes = anonymous_bytes(); }

    // With the little that a process takes to be there.
    static std::uint64_t held_bytes(const Board& board, const Plan&) {
        return board.private_bytes;
    }

private:
    Place* own;
};

}  // namespace

int main(int count, char** words) { return serve<Heap>(count, words); }
