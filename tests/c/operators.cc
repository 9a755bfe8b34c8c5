// The operators of C++, its containers, and its ends of threads.
#include "check.h"

#include <cstddef>
#include <map>
#include <memory>
#include <memory_resource>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

struct alignas(256) Wide {
    unsigned char bytes[512];
};

struct Counted {
    static int alive;
    std::string word{"long enough to be in a block of its own"};
    Counted() { ++alive; }
    ~Counted() { --alive; }
};
int Counted::alive = 0;

void every_form_of_new_and_delete_works()
{
    for (std::size_t size = 0; size < 3 * MIB; size = size * 2 + 1) {
        void *plain = ::operator new(size), *array = ::operator new[](size);
        void *quiet = ::operator new(size, std::nothrow);
        void *quiet_array = ::operator new[](size, std::nothrow);
        EXPECT(plain && array && quiet && quiet_array, "blocks of %zu", size);
        fill(plain, 0, size, 1);
        fill(array, 0, size, 2);
        fill(quiet, 0, size, 3);
        fill(quiet_array, 0, size, 4);
        EXPECT(holds(plain, size, 1) && holds(array, size, 2) && holds(quiet, size, 3)
                   && holds(quiet_array, size, 4),
               "contents of their own in blocks of %zu", size);
        ::operator delete(plain);
        ::operator delete[](array);
        ::operator delete(quiet, std::nothrow);
        ::operator delete[](quiet_array, std::nothrow);
        plain = ::operator new(size);
        array = ::operator new[](size);
        ::operator delete(plain, size);
        ::operator delete[](array, size);
    }
    ::operator delete(nullptr);
    ::operator delete[](nullptr);
    ::operator delete(nullptr, std::size_t{8});
    ::operator delete(nullptr, std::align_val_t{64});
}

void every_aligned_form_works()
{
    for (std::size_t at = 8; at <= MIB; at *= 2) {
        for (std::size_t size : {std::size_t{1}, at - 1, at, 3 * at + 5}) {
            std::align_val_t alignment{at};
            void *blocks[] = {
                ::operator new(size, alignment),
                ::operator new[](size, alignment),
                ::operator new(size, alignment, std::nothrow),
                ::operator new[](size, alignment, std::nothrow),
                ::operator new(size, alignment),
                ::operator new[](size, alignment),
            };
            for (void *block : blocks) {
                EXPECT(block && reinterpret_cast<std::uintptr_t>(block) % at == 0,
                       "%zu bytes at a multiple of %zu", size, at);
                fill(block, 0, size, at);
            }
            for (void *block : blocks)
                EXPECT(holds(block, size, at), "contents");
            ::operator delete(blocks[0], alignment);
            ::operator delete[](blocks[1], alignment);
            ::operator delete(blocks[2], alignment, std::nothrow);
            ::operator delete[](blocks[3], alignment, std::nothrow);
            ::operator delete(blocks[4], size, alignment);
            ::operator delete[](blocks[5], size, alignment);
        }
    }
    std::vector<Wide> wide(100);
    EXPECT(reinterpret_cast<std::uintptr_t>(wide.data()) % alignof(Wide) == 0, "a wide vector");
}

void zero_bytes_of_new_are_unique()
{
    void *one = ::operator new(opaque(0)), *other = ::operator new(opaque(0));
    EXPECT(one && other && one != other, "two pointers");
    ::operator delete(one);
    ::operator delete(other);
}

template <typename Ask> bool throws_bad_alloc(Ask ask)
{
    try {
        kept(ask());
        return false;
    } catch (const std::bad_alloc &) {
        return true;
    }
}

void too_much_throws_bad_alloc()
{
    std::size_t much = opaque(PTRDIFF_MAX);
    std::align_val_t at{4096};
    for (std::size_t size : {much, SIZE_MAX, SIZE_MAX - 100}) {
        std::size_t much = opaque(size);
        EXPECT(throws_bad_alloc([&] { return ::operator new(much); }), "bad_alloc");
        EXPECT(throws_bad_alloc([&] { return ::operator new[](much); }), "bad_alloc");
        EXPECT(!::operator new(much, std::nothrow), "null");
        EXPECT(!::operator new[](much, std::nothrow), "null");
    }
    // Not more: the C++ library's own form rounds a size up, past the largest number.
    EXPECT(throws_bad_alloc([&] { return ::operator new(much, at); }), "bad_alloc");
    EXPECT(throws_bad_alloc([&] { return ::operator new[](much, at); }), "bad_alloc");
    EXPECT(!::operator new(much, at, std::nothrow), "null");
    EXPECT(!::operator new[](much, at, std::nothrow), "null");
    EXPECT(throws_bad_alloc([] { return new char[opaque(PTRDIFF_MAX)]; }), "bad_alloc");
}

int handled = 0;

void give_up_at_the_third()
{
    if (++handled == 3)
        std::set_new_handler(nullptr);
}

struct Own : std::bad_alloc {};

[[noreturn]] void throw_own()
{
    throw Own();
}

void the_new_handler_is_asked()
{
    std::set_new_handler(give_up_at_the_third);
    EXPECT(throws_bad_alloc([] { return ::operator new(opaque(PTRDIFF_MAX)); }), "bad_alloc");
    EXPECT(handled == 3, "three calls of the handler (%d)", handled);
    handled = 0;
    std::set_new_handler(give_up_at_the_third);
    EXPECT(!::operator new(opaque(PTRDIFF_MAX), std::nothrow), "null");
    EXPECT(handled == 3, "three calls of the handler (%d)", handled);
    std::set_new_handler(throw_own);
    bool is_own = false;
    try {
        kept(::operator new(opaque(PTRDIFF_MAX)));
    } catch (const Own &) {
        is_own = true;
    }
    EXPECT(is_own, "the handler's own exception");
    EXPECT(!::operator new(opaque(PTRDIFF_MAX), std::nothrow), "null where the handler throws");
    std::set_new_handler(nullptr);
}

void containers_hold_what_they_are_given()
{
    std::map<std::string, std::vector<int>> tree;
    std::unordered_map<int, std::unique_ptr<Counted>> table;
    for (int i = 0; i < 50000; i++) {
        tree["a key that is long enough " + std::to_string(i % 5000)].push_back(i);
        table[i % 3000] = std::make_unique<Counted>();
        if (i % 7 == 0)
            tree.erase("a key that is long enough " + std::to_string(i % 4999));
    }
    for (const auto &[key, numbers] : tree)
        for (int number : numbers)
            EXPECT(key.size() > 20 && number % 5000 == std::stoi(key.substr(26)), "its own key");
    EXPECT(Counted::alive == 3000, "3000 objects (%d)", Counted::alive);
    table.clear();
    EXPECT(Counted::alive == 0, "none (%d)", Counted::alive);
    std::pmr::unsynchronized_pool_resource pool;
    std::pmr::monotonic_buffer_resource arena(&pool);
    std::pmr::vector<std::pmr::string> words(&arena);
    for (int i = 0; i < 20000; i++)
        words.emplace_back("a word that needs a block of its own");
    EXPECT(words[19999] == words[0], "words");
}

void exceptions_fly_through_threads()
{
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++)
        threads.emplace_back([i] {
            for (int j = 0; j < 3000; j++) {
                try {
                    std::string why(static_cast<std::size_t>(j % 300), 'x');
                    throw std::runtime_error(why + std::to_string(i));
                } catch (const std::exception &error) {
                    EXPECT(error.what()[strlen(error.what()) - 1] == '0' + i, "one's own");
                }
            }
        });
    for (auto &thread : threads)
        thread.join();
}

int ended = 0;

/* Its destructor runs as the thread ends, and allocates there. */
struct AtThreadExit {
    std::vector<std::string> words;
    ~AtThreadExit()
    {
        std::map<int, std::string> last;
        for (int i = 0; i < 200; i++)
            last[i] = std::string(static_cast<std::size_t>(i) * 20, 'y');
        for (auto &[number, word] : last)
            EXPECT(word.size() == static_cast<std::size_t>(number) * 20, "a word");
        words.clear();
        __atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
    }
};

thread_local AtThreadExit at_thread_exit;

void destructors_of_threads_allocate()
{
    for (int i = 0; i < 500; i++)
        std::thread([] {
            for (int j = 0; j < 100; j++)
                at_thread_exit.words.emplace_back("a word that needs a block of its own");
        }).join();
    EXPECT(ended == 500, "500 ends (%d)", ended);
}

/* Before main and after it. */
std::map<std::string, int> *before_main = new std::map<std::string, int>{{"before", 1}};
struct AfterMain {
    std::vector<std::string> words = std::vector<std::string>(1000, std::string(100, 'z'));
    ~AfterMain()
    {
        for (auto &word : words)
            word += std::string(1000, 'w');
        delete before_main;
    }
} after_main;

void globals_live_before_and_after_main()
{
    EXPECT((*before_main)["before"] == 1 && after_main.words[999].size() == 100, "globals");
    pid_t child = fork();
    EXPECT(child >= 0, "a child");
    if (child == 0) {
        child_alarm();
        std::exit(0);
    }
    must_end_well(child, "a process that destroys its globals");
}

} // namespace

CHECKS(EVERY(every_form_of_new_and_delete_works), EVERY(every_aligned_form_works),
       EVERY(zero_bytes_of_new_are_unique), EVERY(too_much_throws_bad_alloc),
       EVERY(the_new_handler_is_asked), EVERY(containers_hold_what_they_are_given),
       EVERY(exceptions_fly_through_threads), EVERY(destructors_of_threads_allocate),
       EVERY(globals_live_before_and_after_main))
