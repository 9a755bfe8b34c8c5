// Numbers that are the same in each run and for each contender: as benches/src/alloc/random.rs.
#pragma once

#include <cstddef>
#include <cstdint>

class Random {
    std::uint64_t state;

public:
    explicit Random(unsigned member) : state((member + 1) * 0x9E3779B97F4A7C15u) {}

    std::uint64_t word() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 0x2545F4914F6CDD1Du;
    }

    // One of 0 to `bound`, without the latter.
    std::size_t below(std::size_t bound) {
        return std::size_t(((unsigned __int128)word() * bound) >> 64);
    }

    // One of `least` to `most`, both counted.
    std::size_t between(std::size_t least, std::size_t most) {
        return least + below(most - least + 1);
    }
};
