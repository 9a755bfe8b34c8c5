// What the members of a run share besides the heap: where they meet, what they hand over, and what
// each of them tells. Memory that was mapped before the second process was born.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>
#include <stdexcept>

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

inline std::uint64_t nanos(clockid_t clock) {
    timespec now;
    clock_gettime(clock, &now);
    return std::uint64_t(now.tv_sec) * 1'000'000'000u + std::uint64_t(now.tv_nsec);
}

// How many calls took how long: buckets of one part in 32, as benches/src/alloc/times.rs.
struct Times {
    static constexpr unsigned STEP_BITS = 5;
    std::uint64_t counts[64 << STEP_BITS];

    void add(std::uint64_t span) {
        const int power = 63 - __builtin_clzll(span | 1);
        const unsigned shift = power > int(STEP_BITS) ? unsigned(power) - STEP_BITS : 0;
        ++counts[(shift << STEP_BITS) + (span >> shift)];
    }

    void add(const Times& other) {
        for (unsigned at = 0; at < 64 << STEP_BITS; ++at) counts[at] += other.counts[at];
    }

    // What all but a thousandth stayed within.
    std::uint64_t tail() const {
        std::uint64_t all = 0, seen = 0;
        for (const std::uint64_t count : counts) all += count;
        for (std::uint64_t at = 0; all > 0 && at < 64 << STEP_BITS; ++at) {
            seen += counts[at];
            if (seen < all - all / 1000) continue;
            const std::uint64_t shift = at >> STEP_BITS ? (at >> STEP_BITS) - 1 : 0;
            return ((at - (shift << STEP_BITS)) << shift) + (std::uint64_t(1) << shift) - 1;
        }
        return 0;
    }
};

// One writes, one reads; each has a line of its own, and looks at the other's when it must.
class Ring {
    static constexpr std::uint64_t SLOTS = 4096;
    struct alignas(128) End {
        std::atomic<std::uint64_t> count;
        std::uint64_t seen;  // of the other's count
    };
    End writer, reader;
    std::uint64_t slots[SLOTS];

public:
    bool push(std::uint64_t word) {
        const std::uint64_t at = writer.count.load(std::memory_order_relaxed);
        if (at - writer.seen == SLOTS) {
            writer.seen = reader.count.load(std::memory_order_acquire);
            if (at - writer.seen == SLOTS) return false;
        }
        slots[at % SLOTS] = word;
        writer.count.store(at + 1, std::memory_order_release);
        return true;
    }

    bool pop(std::uint64_t& word) {
        const std::uint64_t at = reader.count.load(std::memory_order_relaxed);
        if (at == reader.seen) {
            reader.seen = writer.count.load(std::memory_order_acquire);
            if (at == reader.seen) return false;
        }
        word = slots[at % SLOTS];
        reader.count.store(at + 1, std::memory_order_release);
        return true;
    }
};

struct Board {
    static constexpr std::size_t DESK = 200'000;
    static constexpr std::size_t PAGES = 1 << 16;

    struct alignas(128) Account {
        std::uint64_t start, end, cpu, live, sequence, operations;
        Times times;
    };

    alignas(128) std::atomic<std::uint64_t> arrivals;
    alignas(128) std::atomic<bool> failed;
    Ring ring;
    Account accounts[2];
    std::uint64_t desk[2][DESK];
    std::atomic<std::uint64_t> pages[PAGES / 64];  // of the heap, that are in use
    std::uint64_t private_bytes;                   // of a heap that has no pages of its own

    static Board& make() {
        void* at = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (at == MAP_FAILED) throw std::bad_alloc();
        return *static_cast<Board*>(at);  // zeroes are what each part begins with
    }

    // Looks until `is_so`, and lets others run between two looks.
    template <class Look> void wait(Look is_so) {
        for (unsigned looks = 0; !is_so(); ++looks) {
            if (failed.load(std::memory_order_relaxed)) throw std::runtime_error("another failed");
            if (looks % 64 == 63) sched_yield();
            else __builtin_ia32_pause();
        }
    }

    // Waits until all are here.
    void meet(unsigned members) {
        const std::uint64_t mine = arrivals.fetch_add(1, std::memory_order_acq_rel);
        const std::uint64_t all = (mine / members + 1) * members;
        wait([&] { return arrivals.load(std::memory_order_acquire) >= all; });
    }

    // Notes which pages of a mapping are in use: those in the page table of this process that hold
    // anything but zeros.
    void note_pages(const void* start, std::size_t bytes) {
        const int file = open("/proc/self/pagemap", O_RDONLY);
        if (file < 0) throw std::runtime_error("no page map");
        static const char zeros[4096] = {};
        const std::uint64_t first = std::uintptr_t(start) / 4096;
        for (std::uint64_t page = 0; page < bytes / 4096 && page < PAGES; page += 512) {
            std::uint64_t entries[512];
            const ssize_t got = pread(file, entries, sizeof entries, off_t((first + page) * 8));
            if (got != sizeof entries) throw std::runtime_error("the page map is cut short");
            for (std::uint64_t at = 0; at < 512 && page + at < bytes / 4096; ++at) {
                if (entries[at] >> 63 == 0) continue;  // not there
                const void* content = reinterpret_cast<void*>((first + page + at) * 4096);
                const std::uint64_t bit = std::memcmp(content, zeros, sizeof zeros) != 0;
                pages[(page + at) / 64].fetch_or(bit << ((page + at) % 64));
            }
        }
        close(file);
    }

    std::uint64_t pages_bytes() const {
        std::uint64_t count = 0;
        for (const auto& word : pages) count += std::uint64_t(__builtin_popcountll(word.load()));
        return count * 4096;
    }
};
