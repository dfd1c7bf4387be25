/* selftest: does the kernel keep what syscall.h promises? One line for each test: `ok name` or `FAILED name`; then
 * `PASS n` or `FAIL n of m`. As the first program (the kernel's command line: selftest) it ends the machine with
 * status 0 or 1, and its argument is how many checks the kernel has made of itself before; started from the shell,
 * it has the kernel make them now.
 *
 * Nothing that depends on how fast the machine is gets printed, and no test relies on it. */
#include "selftest.h"

int child_status(int (*body)(void))
{
    int status = -1, pid = fork();
    if (pid == 0)
        exit(body());
    return pid > 0 && wait(&status) == pid ? status : -1;
}

bool file_holds(const char *name, const char *text)
{
    char found[256];
    int fd = open(name, OPEN_READ), size = read(fd, found, sizeof found);
    close(fd);
    return size == (int)strlen(text) && !memcmp(found, text, strlen(text));
}

bool make_file(const char *name, const char *text, unsigned size)
{
    int fd = open(name, OPEN_WRITE);
    bool done = write(fd, text, size) == (int)size;
    return close(fd) == 0 && done;
}

static const char *shell_line;

static int run_shell(void)
{
    char *arguments[] = { "sh", "-c", (char *)shell_line, 0 };
    int fd = open("selftest.out", OPEN_WRITE);
    for (int as = 1; as <= 2; as++) {
        close(as);
        dup(fd);
    }
    close(fd);
    return exec("sh", arguments);
}

bool shell_prints(const char *line, const char *output, int status)
{
    shell_line = line;
    bool right = child_status(run_shell) == status && file_holds("selftest.out", output);
    return unlink("selftest.out") == 0 && right;
}

static int passed, failed;

static void report(const char *name, bool right)
{
    passed += right;
    failed += !right;
    printf("%s %s\n", right ? "ok" : "FAILED", name);
}

static void run(const struct test *tests)
{
    for (; tests->name; tests++)
        report(tests->name, tests->run());
}

static void run_kernel_checks(void)
{
    struct check_info check;
    for (int n = 0; check_info(n, &check) == 0; n++)
        report(check.name, check.right);
}

/* Have all pages of the stack that the tests need, so that no frame is missing for a good reason afterwards. */
static void touch_stack(void)
{
    volatile char room[8192];
    for (unsigned i = 0; i < sizeof room; i += 1024)
        room[i] = 0;
}

/* What a test of exec runs: `selftest -arguments one "" three`. */
static int check_arguments(int count, char **arguments)
{
    return count == 5 && equal(arguments[2], "one") && !arguments[3][0] && equal(arguments[4], "three")
        && !arguments[5] ? 7 : 1;
}

int main(int count, char **arguments)
{
    if (count > 1 && equal(arguments[1], "-arguments"))
        return check_arguments(count, arguments);
    if (count > 1)
        passed = number(arguments[1]);
    else
        run_kernel_checks();
    touch_stack();
    int before = frames();
    run(process_tests);
    run(memory_tests);
    run(file_tests);
    run(protection_tests);
    report("memory.nothing_is_lost", frames() == before);
    if (failed)
        printf("FAIL %d of %d\n", failed, passed + failed);
    else
        printf("PASS %d\n", passed);
    return failed != 0;
}
