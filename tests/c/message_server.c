/*
 * A server of message pipes on plain Win32 calls, for tests/foreign.
 *
 *     message_server PIPE [REPLY [MESSAGES]]
 *
 * Listens at PIPE (\\.\pipe\NAME) with a thread for each client, prints `listening` and then each message on a line
 * of its own, without its closing NUL, and answers it. REPLY is the number of bytes of the answer, or `text` for
 * the default: a short text with its closing NUL. Byte i of an answer of that many bytes is '!' + i % 89.
 * A client is served until it closes, or until it has sent MESSAGES messages.
 *
 * Runs until it is killed. Exit code: 1 with one line on standard error, or 2 for wrong arguments.
 */
#include <windows.h>

#include <fcntl.h>
#include <io.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_BYTES 512
#define MAX_MESSAGE_BYTES (16 << 20)

static const char default_reply[] = "answer from the server in C";

static const char *reply = default_reply;
static DWORD reply_size = sizeof default_reply;
static unsigned long messages_for_each = ULONG_MAX;
static CRITICAL_SECTION printing;

static void complain(const char *what)
{
    fprintf(stderr, "message_server: %s failed with error %lu\n", what, GetLastError());
}

static HANDLE create_instance(const char *name)
{
    return CreateNamedPipeA(name, PIPE_ACCESS_DUPLEX, PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE | PIPE_WAIT,
                            PIPE_UNLIMITED_INSTANCES, BUFFER_BYTES, BUFFER_BYTES, 0, NULL);
}

/* One message: `bytes` is kept from one message to the next and grows as it has to. */
struct message {
    char *bytes;
    DWORD size;
    DWORD capacity;
};

static BOOL make_room(struct message *message)
{
    DWORD capacity = message->capacity ? message->capacity * 2 : BUFFER_BYTES;
    char *bytes;

    if (message->capacity - message->size >= BUFFER_BYTES)
        return TRUE;
    bytes = capacity <= MAX_MESSAGE_BYTES ? realloc(message->bytes, capacity) : NULL;
    if (!bytes) {
        SetLastError(ERROR_NOT_ENOUGH_MEMORY);
        return FALSE;
    }
    message->bytes = bytes;
    message->capacity = capacity;
    return TRUE;
}

/* Reads one message, never more than BUFFER_BYTES of it at a time. */
static BOOL read_message(HANDLE pipe, struct message *message)
{
    BOOL whole;

    message->size = 0;
    do {
        DWORD size = 0;

        if (!make_room(message))
            return FALSE;
        whole = ReadFile(pipe, message->bytes + message->size, BUFFER_BYTES, &size, NULL);
        if (!whole && GetLastError() != ERROR_MORE_DATA)
            return FALSE;
        message->size += size;
    } while (!whole);
    return TRUE;
}

static void print_message(const struct message *message)
{
    DWORD size = message->size;

    if (size > 0 && message->bytes[size - 1] == '\0')
        size--;
    EnterCriticalSection(&printing);
    fwrite(message->bytes, 1, size, stdout);
    putchar('\n');
    fflush(stdout);
    LeaveCriticalSection(&printing);
}

/* Whether the last error only says that the client has gone. */
static BOOL client_left(void)
{
    DWORD error = GetLastError();

    return error == ERROR_BROKEN_PIPE || error == ERROR_NO_DATA;
}

static DWORD WINAPI serve(void *argument)
{
    HANDLE pipe = argument;
    struct message message = { NULL, 0, 0 };
    unsigned long left;

    for (left = messages_for_each; left > 0; left--) {
        DWORD written = 0;

        if (!read_message(pipe, &message)) {
            if (!client_left())
                complain("reading a message");
            break;
        }
        print_message(&message);
        if (!WriteFile(pipe, reply, reply_size, &written, NULL)) {
            if (!client_left())
                complain("writing the answer");
            break;
        }
    }
    free(message.bytes);
    /* The client may still have to read the answer: disconnecting would take it away. */
    FlushFileBuffers(pipe);
    DisconnectNamedPipe(pipe);
    CloseHandle(pipe);
    return 0;
}

/* Waits for a client on this instance. One that came and left again in the meantime is none. */
static BOOL wait_for_client(HANDLE pipe)
{
    while (!ConnectNamedPipe(pipe, NULL)) {
        if (GetLastError() == ERROR_PIPE_CONNECTED)
            return TRUE;
        if (GetLastError() != ERROR_NO_DATA || !DisconnectNamedPipe(pipe))
            return FALSE;
    }
    return TRUE;
}

static BOOL make_reply(DWORD size)
{
    char *bytes = malloc(size + 1);
    DWORD i;

    if (!bytes)
        return FALSE;
    for (i = 0; i < size; i++)
        bytes[i] = (char)('!' + i % 89);
    reply = bytes;
    reply_size = size;
    return TRUE;
}

static int usage(void)
{
    fprintf(stderr, "usage: message_server PIPE [REPLY_BYTES|text [MESSAGES]]\n");
    return 2;
}

int main(int argc, char **argv)
{
    HANDLE pipe;
    char *end;

    if (argc < 2 || argc > 4)
        return usage();
    if (argc > 2 && strcmp(argv[2], "text") != 0) {
        unsigned long size = strtoul(argv[2], &end, 10);

        if (end == argv[2] || *end != '\0' || size > MAX_MESSAGE_BYTES || !make_reply(size))
            return usage();
    }
    if (argc > 3) {
        messages_for_each = strtoul(argv[3], &end, 10);
        if (end == argv[3] || *end != '\0')
            return usage();
    }
    _setmode(_fileno(stdout), _O_BINARY);
    InitializeCriticalSection(&printing);

    pipe = create_instance(argv[1]);
    if (pipe == INVALID_HANDLE_VALUE) {
        complain("creating the pipe");
        return 1;
    }
    puts("listening");
    fflush(stdout);

    for (;;) {
        HANDLE client, thread;

        if (!wait_for_client(pipe)) {
            complain("waiting for a client");
            return 1;
        }
        /* The next instance comes before the thread, so that there is never a moment without one. */
        client = pipe;
        pipe = create_instance(argv[1]);
        if (pipe == INVALID_HANDLE_VALUE) {
            complain("creating the next instance");
            return 1;
        }
        thread = CreateThread(NULL, 0, serve, client, 0, NULL);
        if (!thread) {
            complain("starting a thread");
            return 1;
        }
        CloseHandle(thread);
    }
}
