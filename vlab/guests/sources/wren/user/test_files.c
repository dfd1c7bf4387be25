/* Files, descriptors, pipes, and the shell on top of them. */
#include "selftest.h"

static bool a_file_is_read(void)
{
    char text[16] = { 0 };
    int fd = open("welcome", OPEN_READ);
    bool right = fd >= 0 && read(fd, text, 5) == 5 && equal(text, "wren:") && read(fd, text, 8) == 8
        && equal(text, " a small");
    int rest, sum = 0;
    while ((rest = read(fd, text, sizeof text)) > 0)
        sum += rest;
    return right && sum > 20 && rest == 0 && close(fd) == 0;
}

static bool a_missing_file_is_missed(void)
{
    return open("nothing", OPEN_READ) == E_MISSING && open("", OPEN_WRITE) == E_INVALID
        && open("a name that is too long", OPEN_WRITE) == E_INVALID && unlink("nothing") == E_MISSING;
}

static bool the_ram_disk_is_read_only(void)
{
    int fd = open("welcome", OPEN_READ);
    bool right = open("welcome", OPEN_WRITE) == E_READ_ONLY && write(fd, "x", 1) == E_READ_ONLY
        && unlink("welcome") == E_READ_ONLY;
    close(fd);
    return right;
}

static bool a_file_is_written_and_removed(void)
{
    return make_file("note", "one two", 7) && file_holds("note", "one two") && make_file("note", "3", 1)
        && file_holds("note", "3") && unlink("note") == 0 && open("note", OPEN_READ) == E_MISSING;
}

static bool a_large_file_has_many_frames(void)
{
    char text[1000];
    int fd = open("large", OPEN_WRITE), written = 0, size, right = 1;
    for (int i = 0; i < 100; i++) {
        memset(text, 'a' + i % 26, sizeof text);
        if ((size = write(fd, text, sizeof text)) < 0)
            break;
        written += size;
    }
    close(fd);
    fd = open("large", OPEN_READ);
    for (int at = 0; at < written; at += size) {
        size = read(fd, text, sizeof text);
        for (int i = 0; i < size; i++)
            right &= text[i] == 'a' + (at + i) / 1000 % 26;
    }
    close(fd);
    return written == 65536 && right && unlink("large") == 0;
}

static bool an_open_file_stays(void)
{
    make_file("note", "x", 1);
    int fd = open("note", OPEN_READ);
    return unlink("note") == E_READ_ONLY && open("note", OPEN_WRITE) == E_READ_ONLY && close(fd) == 0 && unlink("note") == 0;
}

static bool the_directory_lists_files(void)
{
    struct file_info info;
    int found = 0;
    make_file("note", "12345", 5);
    for (int n = 0; file_info(n, &info) == 0; n++) {
        found += equal(info.name, "selftest") && !info.writable;
        found += equal(info.name, "note") && info.writable && info.size == 5;
    }
    return unlink("note") == 0 && found == 2;
}

static int run_copy(void)
{
    char *arguments[] = { "copy", "-arguments", "one", "", "three", 0 };
    return exec("copy", arguments);
}

static bool a_written_program_runs(void)
{
    char text[512];
    int from = open("selftest", OPEN_READ), to = open("copy", OPEN_WRITE), size;
    while ((size = read(from, text, sizeof text)) > 0)
        write(to, text, (unsigned)size);
    close(from);
    close(to);
    int status = child_status(run_copy);
    return unlink("copy") == 0 && status == 7;
}

static bool descriptors_run_out(void)
{
    int fds[20], count = 0;
    while (count < 20 && (fds[count] = open("welcome", OPEN_READ)) >= 0)
        count++;
    int error = fds[count < 20 ? count : 0];
    for (int i = 0; i < count; i++)
        close(fds[i]);
    return count == 5 && error == E_FULL && close(fds[0]) == E_MISSING && close(-1) == E_MISSING
        && read(99, fds, 1) == E_MISSING && write(7, fds, 1) == E_MISSING && dup(6) == E_MISSING;
}

static bool dup_shares_the_position(void)
{
    char text[8] = { 0 };
    int one = open("welcome", OPEN_READ), other = dup(one);
    bool right = read(one, text, 2) == 2 && read(other, text + 2, 3) == 3 && equal(text, "wren:");
    return close(one) == 0 && close(other) == 0 && right;
}

static bool a_child_shares_the_position(void)
{
    char text[8] = { 0 };
    int fd = open("welcome", OPEN_READ), pid = fork();
    if (pid == 0)
        exit(read(fd, text, 4));
    bool right = wait(0) == pid && read(fd, text, 1) == 1 && text[0] == ':';
    return close(fd) == 0 && right;
}

static bool a_pipe_carries_more_than_it_holds(void)
{
    int ends[2], sum = 0, size, bad = 0;
    unsigned char text[300];
    pipe(ends);
    int pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 5000; i += 250) {
            for (int j = 0; j < 250; j++)
                text[j] = (unsigned char)(i + j);
            write(ends[1], text, 250);
        }
        exit(0);
    }
    close(ends[1]);
    while ((size = read(ends[0], text, sizeof text)) > 0)
        for (int i = 0; i < size; i++)
            bad |= text[i] != (unsigned char)sum++;
    close(ends[0]);
    return wait(0) == pid && sum == 5000 && !bad;
}

static bool processes_take_turns(void)
{
    int there[2], back[2], right = 1;
    char turn = 0;
    pipe(there);
    pipe(back);
    int pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 50 && read(there[0], &turn, 1) == 1; i++) {
            turn++;
            write(back[1], &turn, 1);
        }
        exit(0);
    }
    for (int i = 0; i < 50; i++) {
        write(there[1], &turn, 1);
        right &= read(back[0], &turn, 1) == 1 && turn == i + 1;
    }
    for (int end = 0; end < 2; end++) {
        close(there[end]);
        close(back[end]);
    }
    return wait(0) == pid && right;
}

static bool a_pipe_ends_with_its_writers(void)
{
    int ends[2];
    char byte;
    pipe(ends);
    write(ends[1], "x", 1);
    close(ends[1]);
    bool right = read(ends[0], &byte, 1) == 1 && read(ends[0], &byte, 1) == 0;
    close(ends[0]);
    return right;
}

static bool a_pipe_without_readers_fails(void)
{
    int ends[2];
    char byte;
    pipe(ends);
    bool right = read(ends[1], &byte, 1) == E_MISSING && write(ends[0], &byte, 1) == E_MISSING;
    close(ends[0]);
    right &= write(ends[1], "x", 1) == E_PIPE;
    close(ends[1]);
    return right;
}

static bool pipes_run_out(void)
{
    int fds[3][2], before = frames();
    bool right = pipe(fds[0]) == 0 && pipe(fds[1]) == 0 && pipe(fds[2]) == E_FULL; /* 3 + 2 + 2 of 8 descriptors */
    for (int i = 0; i < 4; i++)
        close(fds[i / 2][i % 2]);
    return right && pipe((int *)0xC0000000) == E_FAULT && pipe(fds[0]) == 0 && close(fds[0][0]) == 0
        && close(fds[0][1]) == 0 && frames() == before;
}

static bool the_shell_redirects(void)
{
    bool right = shell_prints("echo one two > note", "", 0) && file_holds("note", "one two\n")
        && shell_prints("cat < note", "one two\n", 0);
    return unlink("note") == 0 && right;
}

static bool the_shell_pipes(void)
{
    return shell_prints("echo one two three | cat | cat | wc", "1 3 14\n", 0);
}

static bool the_shell_reports(void)
{
    return shell_prints("nothing", "sh: there is no program nothing\n", 127)
        && shell_prints("echo |", "sh: that makes no sense\n", 1)
        && shell_prints("cat < nothing", "sh: nothing cannot be opened\n", 1)
        && shell_prints("kill 9999", "kill: there is no process 9999\n", 1) && shell_prints("exit 9", "", 9);
}

const struct test file_tests[] = {
    { "file.a_file_is_read", a_file_is_read },
    { "file.a_missing_file_is_missed", a_missing_file_is_missed },
    { "file.the_ram_disk_is_read_only", the_ram_disk_is_read_only },
    { "file.a_file_is_written_and_removed", a_file_is_written_and_removed },
    { "file.a_large_file_has_many_frames", a_large_file_has_many_frames },
    { "file.an_open_file_stays", an_open_file_stays },
    { "file.the_directory_lists_files", the_directory_lists_files },
    { "file.a_written_program_runs", a_written_program_runs },
    { "file.descriptors_run_out", descriptors_run_out },
    { "file.dup_shares_the_position", dup_shares_the_position },
    { "file.a_child_shares_the_position", a_child_shares_the_position },
    { "pipe.it_carries_more_than_it_holds", a_pipe_carries_more_than_it_holds },
    { "pipe.processes_take_turns", processes_take_turns },
    { "pipe.it_ends_with_its_writers", a_pipe_ends_with_its_writers },
    { "pipe.it_fails_without_readers", a_pipe_without_readers_fails },
    { "pipe.descriptors_run_out", pipes_run_out },
    { "shell.it_redirects", the_shell_redirects },
    { "shell.it_pipes", the_shell_pipes },
    { "shell.it_reports", the_shell_reports },
    { 0, 0 },
};
