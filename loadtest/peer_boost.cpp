/* The peer of bench_table; see peer_boost.h. */
#include "peer_boost.h"

#include <new>

#include <boost/unordered/unordered_flat_map.hpp>

extern "C" {
#include "hashing/hash.h"
#include "huge.h"
}

namespace
{

struct seeded_hash {
    using is_avalanching = void; /* XXH3 is: boost need not mix again */
    uint64_t seed;
    std::size_t operator()(uint64_t number) const
    {
        return hash_number(number, seed);
    }
};

/* The same memory as the table's. */
template <class T> struct huge_allocator {
    using value_type = T;
    huge_allocator() = default;
    template <class U> huge_allocator(const huge_allocator<U> &)
    {
    }
    T *allocate(std::size_t n)
    {
        void *memory = huge_allocate(n * sizeof(T));
        if (memory == nullptr)
            throw std::bad_alloc();
        return static_cast<T *>(memory);
    }
    void deallocate(T *memory, std::size_t n)
    {
        huge_free(memory, n * sizeof(T));
    }
    bool operator==(const huge_allocator &) const
    {
        return true;
    }
};

using map = boost::unordered_flat_map<uint64_t, uint64_t, seeded_hash, std::equal_to<uint64_t>,
                                      huge_allocator<std::pair<const uint64_t, uint64_t>>>;

} // namespace

struct peer_boost {
    map numbers;
};

extern "C" struct peer_boost *peer_boost_create(size_t expected, uint64_t seed)
{
    return new peer_boost{map(expected, seeded_hash{seed})};
}

extern "C" void peer_boost_destroy(struct peer_boost *peer)
{
    delete peer;
}

extern "C" void peer_boost_insert(struct peer_boost *peer, uint64_t number, uint64_t account)
{
    peer->numbers.emplace(number, account);
}

extern "C" size_t peer_boost_lookup(const struct peer_boost *peer, const uint64_t *numbers, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += peer->numbers.find(numbers[i]) != peer->numbers.end();
    return found;
}
