/* sh: the shell. It reads a line, and runs the programs in it:
 *     words                 a program and its arguments
 *     one | another | ...   the output of one is the input of the next
 *     ... > file            the output goes to a file
 *     ... < file            the input comes from one
 *     ... &                 do not wait
 * `exit` ends the shell; with a status, `exit 3`. `sh -c "line"` runs one line. */
#include "user.h"

enum { LINE = 128, STAGES = 6 };

struct stage {
    char *words[ARGUMENTS + 1];
    int count;
    char *input, *output;
};

static struct stage stages[STAGES];

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

/* Cut the next word, or one of | < > &, out of the line; null at its end. Returns the kind: the sign, or 'w'. */
static char next_token(char **at, char **word)
{
    while (is_space(**at))
        *(*at)++ = 0;
    char c = **at;
    if (!c)
        return 0;
    if (c == '|' || c == '<' || c == '>' || c == '&') {
        *(*at)++ = 0;
        return c;
    }
    for (*word = *at; **at && !is_space(**at) && **at != '|' && **at != '<' && **at != '>' && **at != '&';)
        (*at)++;
    return 'w';
}

/* Fill `stages` from a line; how many there are, or -1 for a line that makes no sense. */
static int parse(char *line, bool *background)
{
    int last = 0;
    char kind, *word = 0;
    memset(stages, 0, sizeof stages);
    *background = false;
    while ((kind = next_token(&line, &word))) {
        struct stage *stage = &stages[last];
        if (*background)
            return -1;
        if (kind == 'w' && stage->count < ARGUMENTS) {
            stage->words[stage->count++] = word;
        } else if (kind == '<' || kind == '>') {
            if (next_token(&line, kind == '<' ? &stage->input : &stage->output) != 'w')
                return -1;
        } else if (kind == '&') {
            *background = true;
        } else if (kind != '|' || !stage->count || ++last == STAGES) {
            return -1;
        }
    }
    return stages[last].count ? last + 1 : last ? -1 : 0;
}

/* Make `fd` the descriptor `as`: dup gives the lowest free one. */
static void move(int fd, int as)
{
    if (fd == as)
        return;
    close(as);
    dup(fd);
    close(fd);
}

static void redirect(const char *name, int flags, int as)
{
    if (!name)
        return;
    int fd = open(name, flags);
    if (fd < 0) {
        fprintf(2, "sh: %s cannot be opened\n", name);
        exit(1);
    }
    move(fd, as);
}

static void run_stage(struct stage *stage, int input, int output)
{
    move(input, 0);
    move(output, 1);
    redirect(stage->input, OPEN_READ, 0);
    redirect(stage->output, OPEN_WRITE, 1);
    exec(stage->words[0], stage->words);
    fprintf(2, "sh: there is no program %s\n", stage->words[0]);
    exit(127);
}

/* Start all stages, each with a pipe to the next, and note their pids. Returns how many were started. */
static int start(int count, int *pids)
{
    int input = 0;
    for (int i = 0; i < count; i++) {
        int ends[2] = { 0, 1 };
        if ((i + 1 < count && pipe(ends) < 0) || (pids[i] = fork()) < 0) {
            fprintf(2, "sh: too many processes or pipes\n");
            return i;
        }
        if (pids[i] == 0) {
            if (i + 1 < count)
                close(ends[0]);
            run_stage(&stages[i], input, ends[1]);
        }
        if (input)
            close(input);
        if (i + 1 < count)
            close(ends[1]);
        input = ends[0];
    }
    return count;
}

/* Wait for these processes, whatever else ends meanwhile. Returns the status of the last one. */
static int wait_for(const int *pids, int count)
{
    int status = 0, result = 0, ended, left = count;
    while (left && (ended = wait(&status)) > 0) {
        for (int i = 0; i < count; i++)
            left -= ended == pids[i];
        if (ended == pids[count - 1])
            result = status;
    }
    return result;
}

static void report(int status)
{
    if (status == STATUS_KILLED)
        fprintf(2, "sh: killed\n");
    else if (status >= STATUS_FAULT)
        fprintf(2, "sh: ended by exception %d\n", status - STATUS_FAULT);
}

/* Run a line; the status of its last stage. */
static int run(char *line)
{
    bool background;
    int pids[STAGES], count = parse(line, &background);
    if (count < 0) {
        fprintf(2, "sh: that makes no sense\n");
        return 1;
    }
    if (!count)
        return 0;
    if (equal(stages[0].words[0], "exit"))
        exit(stages[0].count > 1 ? number(stages[0].words[1]) : 0);
    count = start(count, pids);
    if (background || !count)
        return 0;
    int status = wait_for(pids, count);
    report(status);
    return status;
}

int main(int count, char **arguments)
{
    static char line[LINE];
    if (count == 3 && equal(arguments[1], "-c"))
        return run(arguments[2]);
    for (;;) {
        fprintf(2, "$ ");
        int size = read(0, line, LINE - 1);
        if (size <= 0)
            return 0;
        line[size] = 0;
        run(line);
    }
}
