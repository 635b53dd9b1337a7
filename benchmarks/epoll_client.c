/* The C twin of the load generator's closed loop, to tell what Python and Numba cost: the same work, written as one would
 * write it in C. Not part of the product, and not a load generator of its own: no fault is named, no size is variable
 * but that of a message that fits into one write.
 *
 * cc -O2 -o epoll_client epoll_client.c && ./epoll_client 127.0.0.1 PORT CONNECTIONS BYTES WARMUP_S DURATION_S
 * prints {"completed": N, "cpu_ns": N, "wrong": N, "p50_ns": N}
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256 * 1024, EVENTS = 512, BUCKETS = 31 << 10 };

struct connection {
    int fd;
    uint64_t base, begun, echoed;
    size_t echo; /* bytes of the echo that have come */
    int64_t sent_ns;
};

static size_t message_bytes;
static uint64_t words[CHUNK / 8 + 2];
static unsigned char inbound[CHUNK];
static int64_t counts[BUCKETS];
static int64_t completed, wrong;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static const unsigned char *prepare(uint64_t base, uint64_t number, size_t offset, size_t size)
{
    uint64_t stamp = base + number * 0xD1B54A32D192ED03u;
    size_t first = offset / 8, count = (offset % 8 + size + 7) / 8;
    for (size_t k = 0; k < count; k++)
        words[k] = mix(stamp + (first + k) * 0x9E3779B97F4A7C15u);
    if (first == 0)
        words[0] = stamp;
    return (unsigned char *)words + offset % 8;
}

static void record(int64_t ns)
{
    uint64_t value = ns < 0 ? 0 : ns > 1000000000000 ? 1000000000000 : (uint64_t)ns;
    int doublings = 64 - __builtin_clzll(value | 2047) - 11;
    counts[((uint64_t)doublings << 10) + (value >> doublings)]++;
}

static int64_t median(void)
{
    int64_t seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += counts[i]) * 2 >= completed && completed)
            return i < 2048 ? i : (int64_t)(i % 1024 + 1024) << (i / 1024 - 1);
    return 0;
}

static void send_next(struct connection *c)
{
    const unsigned char *bytes;
    c->sent_ns = now_ns();
    bytes = prepare(c->base, c->begun++, 0, message_bytes);
    if (write(c->fd, bytes, message_bytes) != (ssize_t)message_bytes) {
        perror("write");
        exit(1);
    }
}

static int64_t receive(struct connection *c)
{
    ssize_t count = read(c->fd, inbound, CHUNK);
    int64_t now = now_ns();
    if (count <= 0) {
        if (count < 0 && (errno == EAGAIN || errno == EINTR))
            return now;
        fprintf(stderr, "a connection ended\n");
        exit(1);
    }
    for (size_t start = 0; start < (size_t)count;) {
        size_t left = message_bytes - c->echo;
        size_t size = (size_t)count - start < left ? (size_t)count - start : left;
        if (c->begun == c->echoed || memcmp(prepare(c->base, c->echoed, c->echo, size), inbound + start, size) != 0) {
            wrong++;
            return now;
        }
        start += size;
        c->echo += size;
        if (c->echo == message_bytes) {
            record(now - c->sent_ns);
            c->echo = 0;
            c->echoed++;
            completed++;
        }
    }
    if (c->begun == c->echoed)
        send_next(c);
    return now;
}

static void run(int epoll_fd, int64_t until)
{
    struct epoll_event events[EVENTS];
    int64_t now = now_ns();
    while (now < until) {
        int ready = epoll_wait(epoll_fd, events, EVENTS, (int)((until - now + 999999) / 1000000));
        if (ready <= 0)
            now = now_ns();
        for (int i = 0; i < ready; i++)
            now = receive(events[i].data.ptr);
    }
}

static int64_t cpu_ns(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000ll + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000ll;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &to.sin_addr);
    int connections = atoi(argv[3]), epoll_fd = epoll_create1(EPOLL_CLOEXEC), one = 1;
    message_bytes = strtoul(argv[4], NULL, 10);
    struct connection *all = calloc(connections, sizeof *all);
    for (int i = 0; i < connections; i++) {
        all[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        all[i].base = mix(i + 1);
        if (connect(all[i].fd, (struct sockaddr *)&to, sizeof to) != 0) {
            perror("connect");
            return 1;
        }
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(all[i].fd, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, all[i].fd, &event);
    }
    for (int i = 0; i < connections; i++)
        send_next(&all[i]);
    run(epoll_fd, now_ns() + (int64_t)(atof(argv[5]) * 1e9));
    memset(counts, 0, sizeof counts);
    completed = 0;
    int64_t cpu_before = cpu_ns(), start = now_ns();
    run(epoll_fd, start + (int64_t)(atof(argv[6]) * 1e9));
    int64_t spent = cpu_ns() - cpu_before;
    printf("{\"completed\": %lld, \"cpu_ns\": %lld, \"wrong\": %lld, \"p50_ns\": %lld}\n", (long long)completed,
           (long long)spent, (long long)wrong, (long long)median());
    return wrong != 0;
}
