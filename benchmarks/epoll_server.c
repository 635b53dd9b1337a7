/* A plain level-triggered epoll echo server: what servers/readiness.py does, without an interpreter.
 *
 *     epoll_server ... --listen-fd N --status-fd M
 *
 * Takes the options of `python -m servers`, so that the same runner can start it, and serves on the inherited listener
 * until SIGTERM. It reads as much at once as the Python servers do, and keeps what could
 * not be written until the socket has room again, so that both do the same work.
 */
#define _GNU_SOURCE /* accept4 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECV_SIZE = 64 * 1024, EVENTS = 1024, DESCRIPTORS = 65536 };

struct connection {
    char *unsent; /* NULL unless bytes wait for room */
    size_t length;
};

static struct connection connections[DESCRIPTORS];
static char buffer[RECV_SIZE];

static void watch(int epoll, int operation, int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    epoll_ctl(epoll, operation, fd, &event);
}

static void end(int epoll, int fd) {
    watch(epoll, EPOLL_CTL_DEL, fd, 0);
    free(connections[fd].unsent);
    connections[fd].unsent = NULL;
    close(fd);
}

static void keep(int epoll, int fd, const char *rest, size_t length) {
    char *copy = malloc(length);
    memcpy(copy, rest, length);
    if (connections[fd].unsent == NULL)
        watch(epoll, EPOLL_CTL_MOD, fd, EPOLLOUT);
    free(connections[fd].unsent);
    connections[fd].unsent = copy;
    connections[fd].length = length;
}

static void echo(int epoll, int fd) {
    struct connection *connection = &connections[fd];
    const char *data = connection->unsent;
    ssize_t length = (ssize_t)connection->length;
    if (data == NULL) {
        data = buffer;
        length = read(fd, buffer, sizeof buffer);
        if (length < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (length <= 0) {
            end(epoll, fd);
            return;
        }
    }
    ssize_t sent = write(fd, data, (size_t)length);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        end(epoll, fd);
        return;
    }
    if (sent < 0)
        sent = 0;
    if (sent < length) {
        keep(epoll, fd, data + sent, (size_t)(length - sent));
    } else if (connection->unsent != NULL) {
        free(connection->unsent);
        connection->unsent = NULL;
        watch(epoll, EPOLL_CTL_MOD, fd, EPOLLIN);
    }
}

static int option(int argc, char **argv, const char *name) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return atoi(argv[i + 1]);
    return -1;
}

static void stop(int signal) {
    (void)signal;
    _exit(0);
}

int main(int argc, char **argv) {
    int listener = option(argc, argv, "--listen-fd");
    int status = option(argc, argv, "--status-fd");
    if (listener < 0 || status < 0)
        return 2;
    signal(SIGTERM, stop);
    dprintf(status, "{\"event\": \"ready\", \"implementation\": \"C\", \"version\": \"\", \"gil\": false}\n");
    fcntl(listener, F_SETFL, O_NONBLOCK);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN);
    static struct epoll_event events[EVENTS];
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                echo(epoll, fd);
                continue;
            }
            int conn = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (conn >= DESCRIPTORS)
                close(conn);
            else if (conn >= 0)
                watch(epoll, EPOLL_CTL_ADD, conn, EPOLLIN);
        }
    }
}
