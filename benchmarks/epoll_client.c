/* The C twin of the load generator's closed loop, to tell what Python and Numba cost: the same work, written as one would
 * write it in C. Not part of the product, and not a load generator of its own: no fault is named, no size is variable
 * but that of a message that fits into one write.
 *
 * cc -O2 -o epoll_client epoll_client.c
 * ./epoll_client tcp:127.0.0.1:PORT|unix:@NAME|pipe:@NAME CONNECTIONS BYTES WARMUP_S DURATION_S
 * prints {"completed": N, "cpu_ns": N, "wrong": N, "p50_ns": N}
 * ./epoll_client bare BYTES DURATION_S
 * does nothing but write(2) to a pipe and read(2) from it, and prints {"completed": N, "cpu_ns": N}
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256 * 1024, EVENTS = 512, BUCKETS = 31 << 10 };

struct connection {
    int rfd, wfd; /* the same for a socket */
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
    if (write(c->wfd, bytes, message_bytes) != (ssize_t)message_bytes) {
        perror("write");
        exit(1);
    }
}

static int64_t receive(struct connection *c)
{
    ssize_t count = read(c->rfd, inbound, CHUNK);
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

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int dial_tcp(char *place)
{
    char *colon = strrchr(place, ':');
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    *colon = 0;
    inet_pton(AF_INET, place, &to.sin_addr);
    *colon = ':';
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static int dial_unix(const char *name)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strncpy(to.sun_path + 1, name + 1, sizeof to.sun_path - 2); /* "@": an abstract name begins with a zero byte */
    if (connect(fd, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + strlen(name)) != 0)
        die("connect");
    return fd;
}

static void take_pipes(int fd, struct connection *c)
{
    char byte, control[CMSG_SPACE(2 * sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fds[2];
    if (recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&message) == NULL)
        die("recvmsg");
    memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fds);
    c->rfd = fds[0];
    c->wfd = fds[1];
    close(fd);
}

static void dial(char *address, struct connection *c)
{
    if (strncmp(address, "tcp:", 4) == 0)
        c->rfd = c->wfd = dial_tcp(address + 4);
    else if (strncmp(address, "unix:@", 6) == 0)
        c->rfd = c->wfd = dial_unix(address + 5);
    else if (strncmp(address, "pipe:@", 6) == 0)
        take_pipes(dial_unix(address + 5), c);
    else
        exit(2);
    fcntl(c->rfd, F_SETFL, O_NONBLOCK);
    fcntl(c->wfd, F_SETFL, O_NONBLOCK);
}

static int bare(size_t size, double duration_s)
{
    int ends[2];
    int64_t start = now_ns(), cpu_before = cpu_ns(), pairs = 0;
    if (pipe(ends) != 0)
        die("pipe");
    while (now_ns() - start < (int64_t)(duration_s * 1e9))
        for (int i = 0; i < 1000; i++, pairs++)
            if (write(ends[1], words, size) != (ssize_t)size || read(ends[0], inbound, size) != (ssize_t)size)
                die("write or read");
    printf("{\"completed\": %lld, \"cpu_ns\": %lld}\n", (long long)pairs, (long long)(cpu_ns() - cpu_before));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "bare") == 0)
        return bare(strtoul(argv[2], NULL, 10), atof(argv[3]));
    if (argc != 6)
        return 2;
    int connections = atoi(argv[2]), epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    message_bytes = strtoul(argv[3], NULL, 10);
    struct connection *all = calloc(connections, sizeof *all);
    for (int i = 0; i < connections; i++) {
        dial(argv[1], &all[i]);
        all[i].base = mix(i + 1);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, all[i].rfd, &event);
    }
    for (int i = 0; i < connections; i++)
        send_next(&all[i]);
    run(epoll_fd, now_ns() + (int64_t)(atof(argv[4]) * 1e9));
    memset(counts, 0, sizeof counts);
    completed = 0;
    int64_t cpu_before = cpu_ns(), start = now_ns();
    run(epoll_fd, start + (int64_t)(atof(argv[5]) * 1e9));
    int64_t spent = cpu_ns() - cpu_before;
    printf("{\"completed\": %lld, \"cpu_ns\": %lld, \"wrong\": %lld, \"p50_ns\": %lld}\n", (long long)completed,
           (long long)spent, (long long)wrong, (long long)median());
    return wrong != 0;
}
