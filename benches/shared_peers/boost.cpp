// Boost.Interprocess: a managed_shared_memory as its documents show it, with the algorithm and the
// mutex that it has by default. It maps wherever it can, so a block's name is its handle.

#include <string>
#include <vector>

#include <boost/interprocess/managed_shared_memory.hpp>

#include "crew.hpp"

namespace ipc = boost::interprocess;

namespace {

constexpr std::size_t HEAP_BYTES = 256u << 20;

std::string name_of_run() {
    // The second member was forked by the first.
    static const std::string name = "tierpool-bench-" + std::to_string(getpid());
    return name;
}

class Heap {
public:
    static constexpr bool SHARES = true;
    static constexpr bool THREADS = false;
    using Place = void*;

    Heap(unsigned member, std::size_t count) : own(count) {
        if (member == 0) {
            ipc::shared_memory_object::remove(name_of_run().c_str());
            memory = ipc::managed_shared_memory(ipc::create_only, name_of_run().c_str(),
                                                HEAP_BYTES);
        } else {
            memory = ipc::managed_shared_memory(ipc::open_only, name_of_run().c_str());
        }
    }

    // All have it; nothing is left behind whatever happens.
    void hide() { ipc::shared_memory_object::remove(name_of_run().c_str()); }

    Place* places() { return own.data(); }
    void take(Place& place, std::size_t bytes) { place = memory.allocate(bytes); }
    void give_back(Place& place) { memory.deallocate(place); }
    void* at(const Place& place) { return place; }
    std::uint64_t name(const Place& place) {
        return std::uint64_t(memory.get_handle_from_address(place));
    }
    void adopt(Place& place, std::uint64_t name) {
        place = memory.get_address_from_handle(ipc::managed_shared_memory::handle_t(name));
    }
    void note_pages(Board& board) {
        const std::uintptr_t inside = std::uintptr_t(memory.get_address());
        board.note_pages(reinterpret_cast<void*>(inside & ~std::uintptr_t(4095)), HEAP_BYTES);
    }
    static std::uint64_t held_bytes(const Board& board, const Plan&) {
        return board.pages_bytes();
    }

private:
    ipc::managed_shared_memory memory;
    std::vector<Place> own;
};

}  // namespace

int main(int count, char** words) {
    name_of_run();
    return serve<Heap>(count, words);
}
