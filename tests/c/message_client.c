/*
 * A client of message pipes on plain Win32 calls, for tests/foreign.
 *
 *     message_client PIPE MESSAGE...
 *
 * Sends each MESSAGE with its closing NUL to PIPE (\\.\pipe\NAME) and writes the reply to standard output as it
 * is, byte for byte, before it sends the next. A busy pipe is waited for up to 20 seconds.
 *
 * Exit code: 0, or 1 with one line on standard error, or 2 for wrong arguments.
 */
#include <windows.h>

#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <string.h>

#define BUSY_MILLISECONDS 20000
#define BUFFER_BYTES 512

static int failed(const char *what)
{
    fprintf(stderr, "message_client: %s failed with error %lu\n", what, GetLastError());
    return 1;
}

/* Opens the pipe; another client may be quicker after each wait, so that one wait may not be enough. */
static HANDLE open_pipe(const char *name)
{
    ULONGLONG started = GetTickCount64();

    for (;;) {
        HANDLE pipe = CreateFileA(name, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
        ULONGLONG waited;

        if (pipe != INVALID_HANDLE_VALUE || GetLastError() != ERROR_PIPE_BUSY)
            return pipe;
        waited = GetTickCount64() - started;
        if (waited >= BUSY_MILLISECONDS) {
            SetLastError(ERROR_SEM_TIMEOUT);
            return INVALID_HANDLE_VALUE;
        }
        if (!WaitNamedPipeA(name, (DWORD)(BUSY_MILLISECONDS - waited)))
            return INVALID_HANDLE_VALUE;
    }
}

static BOOL send_message(HANDLE pipe, const char *message)
{
    DWORD size = (DWORD)strlen(message) + 1;
    DWORD written = 0;

    if (!WriteFile(pipe, message, size, &written, NULL))
        return FALSE;
    if (written != size) {
        SetLastError(ERROR_WRITE_FAULT);
        return FALSE;
    }
    return TRUE;
}

/* Copies one message to standard output, in as many parts as it takes. */
static BOOL print_reply(HANDLE pipe)
{
    char buffer[BUFFER_BYTES];
    BOOL whole;

    do {
        DWORD size = 0;

        whole = ReadFile(pipe, buffer, sizeof buffer, &size, NULL);
        if (!whole && GetLastError() != ERROR_MORE_DATA)
            return FALSE;
        if (fwrite(buffer, 1, size, stdout) != size) {
            SetLastError(ERROR_WRITE_FAULT);
            return FALSE;
        }
    } while (!whole);
    return TRUE;
}

int main(int argc, char **argv)
{
    DWORD mode = PIPE_READMODE_MESSAGE;
    HANDLE pipe;
    int i;

    if (argc < 3) {
        fprintf(stderr, "usage: message_client PIPE MESSAGE...\n");
        return 2;
    }
    _setmode(_fileno(stdout), _O_BINARY);

    pipe = open_pipe(argv[1]);
    if (pipe == INVALID_HANDLE_VALUE)
        return failed("opening the pipe");
    if (!SetNamedPipeHandleState(pipe, &mode, NULL, NULL))
        return failed("setting the read mode");
    for (i = 2; i < argc; i++) {
        if (!send_message(pipe, argv[i]))
            return failed("writing the message");
        if (!print_reply(pipe))
            return failed("reading the reply");
        fflush(stdout);
    }
    if (!CloseHandle(pipe))
        return failed("closing the pipe");
    return 0;
}
