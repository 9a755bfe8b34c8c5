// mimalloc, in private memory of one process: not a shared heap, but the ceiling for one. Where
// others have two processes, it has two threads.

#include <fstream>
#include <string>
#include <vector>

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

std::uint64_t anonymous_before = 0;

class Heap {
public:
    static constexpr bool SHARES = true;
    static constexpr bool THREADS = true;
    using Place = void*;

    Heap(unsigned, std::size_t count) : own(count) {
        // Touched, so that they do not count as the heap's.
        for (Place& place : own) *const_cast<Place volatile*>(&place) = this;
    }

    void hide() {}

    Place* places() { return own.data(); }
    void take(Place& place, std::size_t bytes) {
        place = mi_malloc(bytes);
        if (!place) throw std::bad_alloc();
    }
    void give_back(Place& place) { mi_free(place); }
    void* at(const Place& place) { return place; }
    std::uint64_t name(const Place& place) { return std::uintptr_t(place); }
    void adopt(Place& place, std::uint64_t name) { place = reinterpret_cast<void*>(name); }
    void note_pages(Board& board) { board.private_bytes = anonymous_bytes(); }

    // The places are the program's, not the heap's.
    static std::uint64_t held_bytes(const Board& board, const Plan& plan) {
        const std::size_t count = plan.processes * Work<Heap, false>::places_of(plan);
        const std::uint64_t before = anonymous_before + count * sizeof(Place);
        return board.private_bytes > before ? board.private_bytes - before : 0;
    }

private:
    std::vector<Place> own;
};

}  // namespace

int main(int count, char** words) {
    anonymous_before = anonymous_bytes();
    return serve<Heap>(count, words);
}
