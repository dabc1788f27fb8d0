/*
 * The floor: what a WebSocket server must at least do, in C, with nothing else.
 *
 * epoll, one recv for a readable connection, one send for each connection with something to say in
 * a turn of the loop. No limits, no history, no timers, no tokens, and anything unexpected ends it.
 * It answers what `loadtest swarm --dialect bare` says:
 *
 *   S<channel>             subscribe, once per connection; answered with "joined"
 *   P<channel>\n<payload>  publish
 *   A<channel>\n<payload>  publish, answered with a frame as long as our acknowledgement
 *
 * Channels are numbers below 65536. `floor --discard` reads and forgets whatever comes after the
 * subscription: the floor of taking messages in. Prints "port <n>" when it listens on 127.0.0.1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CHANNELS = 65536, CONNECTIONS = 65536, EVENTS = 1024, READ = 1 << 18, ACK = 61 };

typedef struct {
    char *bytes;
    size_t len, room;
} Buffer;

typedef struct {
    int *members;
    int count, room;
    Buffer batch; /* frames published in this turn */
} Channel;

typedef struct {
    char is_open, is_upgraded, is_joined;
    unsigned acks; /* owed in this turn */
    Buffer unread; /* the part of a frame that came */
} Connection;

static Channel channels[CHANNELS];
static Connection connections[CONNECTIONS];
static int touched[CHANNELS], touched_count;
static int owed[CONNECTIONS], owed_count;
static char ack_frames[64 * (ACK + 2)];
static int poll_fd, is_discarding;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void append(Buffer *buffer, const void *bytes, size_t len) {
    if (buffer->len + len > buffer->room) {
        buffer->room = (buffer->len + len) * 2;
        buffer->bytes = realloc(buffer->bytes, buffer->room);
        if (!buffer->bytes) fail("realloc");
    }
    memcpy(buffer->bytes + buffer->len, bytes, len);
    buffer->len += len;
}

/* SHA-1 (RFC 3174) of less than 2^29 bytes. */
static uint32_t roll(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1(const uint8_t *text, size_t len, uint8_t digest[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    uint8_t block[256] = {0};
    size_t blocks = (len + 8) / 64 + 1;
    memcpy(block, text, len);
    block[len] = 0x80;
    for (int i = 0; i < 4; i++) block[blocks * 64 - 1 - i] = (uint8_t)((len * 8) >> (8 * i));
    for (size_t b = 0; b < blocks; b++) {
        uint32_t w[80], v[5];
        for (int i = 0; i < 16; i++) {
            const uint8_t *p = block + b * 64 + i * 4;
            w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = roll(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) f = (v[1] & v[2]) | (~v[1] & v[3]), k = 0x5A827999;
            else if (i < 40) f = v[1] ^ v[2] ^ v[3], k = 0x6ED9EBA1;
            else if (i < 60) f = (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]), k = 0x8F1BBCDC;
            else f = v[1] ^ v[2] ^ v[3], k = 0xCA62C1D6;
            uint32_t next = roll(v[0], 5) + f + v[4] + k + w[i];
            v[4] = v[3], v[3] = v[2], v[2] = roll(v[1], 30), v[1] = v[0], v[0] = next;
        }
        for (int i = 0; i < 5; i++) h[i] += v[i];
    }
    for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const uint8_t digest[20], char text[29]) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t padded[21] = {0};
    memcpy(padded, digest, 20);
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)padded[i * 3] << 16 | padded[i * 3 + 1] << 8 | padded[i * 3 + 2];
        for (int j = 0; j < 4; j++) text[i * 4 + j] = letters[three >> (18 - 6 * j) & 63];
    }
    text[27] = '=';
    text[28] = 0;
}

static void write_all(int fd, struct iovec *parts, int count) {
    size_t len = 0;
    for (int i = 0; i < count; i++) len += parts[i].iov_len;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    ssize_t sent = count == 1 ? send(fd, parts[0].iov_base, len, MSG_NOSIGNAL)
                              : sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EPIPE || errno == ECONNRESET)) return;
    if (sent != (ssize_t)len) fail("send: the client does not keep up");
}

static size_t frame_header(uint8_t header[4], size_t len) {
    header[0] = 0x81;
    if (len < 126) {
        header[1] = (uint8_t)len;
        return 2;
    }
    header[1] = 126, header[2] = (uint8_t)(len >> 8), header[3] = (uint8_t)len;
    return 4;
}

static void upgrade(int fd, char *request) {
    char *key = strcasestr(request, "sec-websocket-key:");
    if (!key) fail("no key");
    key += strlen("sec-websocket-key:");
    while (*key == ' ') key++;
    char joined[128];
    uint8_t digest[20];
    char accept_key[29], response[256];
    int len = snprintf(joined, sizeof joined, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
                       (int)strcspn(key, "\r\n "), key);
    sha1((uint8_t *)joined, (size_t)len, digest);
    base64(digest, accept_key);
    len = snprintf(response, sizeof response,
                   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                   "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept_key);
    struct iovec part = {response, (size_t)len};
    write_all(fd, &part, 1);
    connections[fd].is_upgraded = 1;
}

static void join(int fd, unsigned number) {
    Channel *channel = &channels[number % CHANNELS];
    if (channel->count == channel->room) {
        channel->room = channel->room ? channel->room * 2 : 16;
        channel->members = realloc(channel->members, (size_t)channel->room * sizeof(int));
        if (!channel->members) fail("realloc");
    }
    channel->members[channel->count++] = fd;
    struct iovec part = {"\x81\x06joined", 8};
    write_all(fd, &part, 1);
    connections[fd].is_joined = 1;
}

static void publish(const char *text, size_t len) {
    unsigned number = (unsigned)strtoul(text + 1, NULL, 10) % CHANNELS;
    const char *payload = memchr(text, '\n', len);
    if (!payload) fail("no payload");
    len -= (size_t)(++payload - text);
    Channel *channel = &channels[number];
    if (!channel->batch.len) touched[touched_count++] = (int)number;
    uint8_t header[4];
    size_t header_len = frame_header(header, len);
    append(&channel->batch, header, header_len);
    append(&channel->batch, payload, len);
}

static void take(int fd, char *text, size_t len) {
    switch (text[0]) {
    case 'S': join(fd, (unsigned)strtoul(text + 1, NULL, 10)); break;
    case 'A':
        if (!connections[fd].acks++) owed[owed_count++] = fd;
        /* fall through */
    case 'P': publish(text, len); break;
    default: break;
    }
}

/* Takes whole frames; returns how many bytes they had. */
static size_t take_frames(int fd, uint8_t *bytes, size_t len) {
    size_t at = 0;
    while (len - at >= 6) {
        uint8_t *frame = bytes + at;
        size_t payload = frame[1] & 127, header = 6;
        if (payload == 126) payload = (size_t)frame[2] << 8 | frame[3], header = 8;
        else if (payload == 127) fail("a frame that long");
        if (len - at < header + payload) break;
        uint8_t *mask = frame + header - 4, *body = frame + header;
        uint32_t mask4;
        memcpy(&mask4, mask, 4);
        size_t i = 0;
        for (; i + 4 <= payload; i += 4) {
            uint32_t word;
            memcpy(&word, body + i, 4);
            word ^= mask4;
            memcpy(body + i, &word, 4);
        }
        for (; i < payload; i++) body[i] ^= mask[i & 3];
        if ((frame[0] & 15) < 8 && payload) take(fd, (char *)body, payload);
        at += header + payload;
    }
    return at;
}

static void leave(int fd) {
    free(connections[fd].unread.bytes);
    memset(&connections[fd], 0, sizeof connections[fd]);
    for (int c = 0; c < CHANNELS; c++)
        for (int i = 0; i < channels[c].count; i++)
            if (channels[c].members[i] == fd) {
                channels[c].members[i] = channels[c].members[--channels[c].count];
                close(fd);
                return;
            }
    close(fd);
}

static void receive(int fd) {
    static uint8_t shared[READ + 1];
    Connection *connection = &connections[fd];
    ssize_t got = recv(fd, shared, READ, 0);
    if (got <= 0) {
        if (got < 0 && errno == EAGAIN) return;
        leave(fd);
        return;
    }
    if (is_discarding && connection->is_joined) return;
    shared[got] = 0;
    if (!connection->is_upgraded) {
        upgrade(fd, (char *)shared);
        return;
    }
    Buffer *unread = &connection->unread;
    if (!unread->len) {
        size_t taken = take_frames(fd, shared, (size_t)got);
        if (taken < (size_t)got) append(unread, shared + taken, (size_t)got - taken);
        return;
    }
    append(unread, shared, (size_t)got);
    size_t taken = take_frames(fd, (uint8_t *)unread->bytes, unread->len);
    memmove(unread->bytes, unread->bytes + taken, unread->len - taken);
    unread->len -= taken;
}

static struct iovec acks_of(int fd) {
    unsigned acks = connections[fd].acks > 64 ? 64 : connections[fd].acks;
    connections[fd].acks = 0;
    return (struct iovec){ack_frames, acks * (ACK + 2)};
}

static void flush(void) {
    for (int t = 0; t < touched_count; t++) {
        Channel *channel = &channels[touched[t]];
        for (int i = 0; i < channel->count; i++) {
            int fd = channel->members[i];
            struct iovec parts[2] = {{channel->batch.bytes, channel->batch.len}};
            int count = 1;
            if (connections[fd].acks) parts[count++] = acks_of(fd);
            write_all(fd, parts, count);
        }
        channel->batch.len = 0;
    }
    for (int i = 0; i < owed_count; i++) {
        if (!connections[owed[i]].acks) continue;
        struct iovec part = acks_of(owed[i]);
        write_all(owed[i], &part, 1);
    }
    touched_count = owed_count = 0;
}

static void accept_all(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (fd < 0) return;
        if (fd >= CONNECTIONS) fail("too many");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[fd].is_open = 1;
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = fd};
        if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
    }
}

static int listen_anywhere(void) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, len) || listen(listener, 4096)) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &len);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = listener};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event)) fail("epoll_ctl");
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int argc, char **argv) {
    is_discarding = argc > 1 && !strcmp(argv[1], "--discard");
    for (int i = 0; i < 64; i++) {
        char *frame = ack_frames + i * (ACK + 2);
        memset(frame, ' ', ACK + 2);
        frame[0] = (char)0x81, frame[1] = ACK;
    }
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_anywhere();
    for (;;) {
        static struct epoll_event events[EVENTS];
        int count = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener) accept_all(listener);
            else receive(events[i].data.fd);
        }
        flush();
    }
}
