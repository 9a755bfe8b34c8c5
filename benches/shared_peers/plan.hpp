// What a worker is asked to do, and what it tells: the same words and the same line of JSON for
// each contender, so that one reader serves them all (benches/src/alloc/shared/line.rs).
#pragma once

#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>

struct Plan {
    std::string workload;
    std::size_t bytes = 0;     // of a block, where a workload has blocks of one size
    unsigned processes = 0;    // how many work at the same time
    std::uint64_t operations = 0;  // of all of them together
    bool timed = false;        // look at the clock around each call

    std::uint64_t share() const { return operations / processes; }

    static Plan of(int count, char** words);
};

struct Told {
    std::uint64_t operations = 0;
    std::uint64_t wall_ns = 0;
    std::uint64_t cpu_ns = 0;
    std::uint64_t held_bytes = 0;  // pages of the heap that are in use
    std::uint64_t live_bytes = 0;  // of the blocks that were there at that moment
    std::uint64_t tail_ns = 0;     // what all but a thousandth of the calls stayed within
    std::uint64_t sequence = 0;    // the same for all who did the same
};

inline Plan Plan::of(int count, char** words) {
    Plan plan;
    for (int at = 1; at < count; ++at) {
        const std::string word = words[at];
        if (word == "--timed") {
            plan.timed = true;
            continue;
        }
        if (at + 1 == count) throw std::runtime_error("no value for " + word);
        const std::string value = words[++at];
        if (word == "--workload") plan.workload = value;
        else if (word == "--bytes") plan.bytes = std::stoull(value);
        else if (word == "--processes") plan.processes = unsigned(std::stoul(value));
        else if (word == "--operations") plan.operations = std::stoull(value);
        else throw std::runtime_error("no option " + word);
    }
    if (plan.processes < 1 || plan.processes > 2) throw std::runtime_error("one process or two");
    return plan;
}

inline void tell(const Plan& plan, const Told& told) {
    const auto number = [](std::uint64_t value) { return (unsigned long long)value; };
    std::printf("{\"workload\":\"%s\",\"bytes\":%zu,\"processes\":%u,\"operations\":%llu,"
                "\"wall_ns\":%llu,\"cpu_ns\":%llu,\"held_bytes\":%llu,\"live_bytes\":%llu,"
                "\"tail_ns\":%llu,\"sequence\":%llu}\n",
                plan.workload.c_str(), plan.bytes, plan.processes, number(told.operations),
                number(told.wall_ns), number(told.cpu_ns), number(told.held_bytes),
                number(told.live_bytes), number(told.tail_ns), number(told.sequence));
}
