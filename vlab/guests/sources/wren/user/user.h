/* The programs' library: system calls (start.S), and a little of what C promises (library.c). */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../syscall.h"

/* start.S */
int syscall(int number, ...); /* up to three arguments */

static inline void exit(int status) { syscall(SYS_EXIT, status); __builtin_unreachable(); }
static inline int fork(void) { return syscall(SYS_FORK); }
static inline int exec(const char *name, char *const *arguments) { return syscall(SYS_EXEC, name, arguments); }
static inline int wait(int *status) { return syscall(SYS_WAIT, status); }
static inline int getpid(void) { return syscall(SYS_GETPID); }
static inline int kill(int pid) { return syscall(SYS_KILL, pid); }
static inline int sleep(unsigned ticks) { return syscall(SYS_SLEEP, ticks); }
static inline int yield(void) { return syscall(SYS_YIELD); }
static inline char *sbrk(int bytes) { return (char *)syscall(SYS_SBRK, bytes); }
static inline int open(const char *name, int flags) { return syscall(SYS_OPEN, name, flags); }
static inline int close(int fd) { return syscall(SYS_CLOSE, fd); }
static inline int read(int fd, void *to, unsigned size) { return syscall(SYS_READ, fd, to, size); }
static inline int write(int fd, const void *from, unsigned size) { return syscall(SYS_WRITE, fd, from, size); }
static inline int dup(int fd) { return syscall(SYS_DUP, fd); }
static inline int pipe(int *fds) { return syscall(SYS_PIPE, fds); }
static inline int unlink(const char *name) { return syscall(SYS_UNLINK, name); }
static inline int file_info(int n, struct file_info *info) { return syscall(SYS_FILE, n, info); }
static inline int process_info(int n, struct process_info *info) { return syscall(SYS_PROCESS, n, info); }
static inline int ticks(void) { return syscall(SYS_TICKS); }
static inline int frames(void) { return syscall(SYS_FRAMES); }
static inline int check_info(int n, struct check_info *info) { return syscall(SYS_CHECK, n, info); }

/* ../format.c */
unsigned format_text(char *to, unsigned size, const char *format, va_list *arguments);

/* library.c */
void fprintf(int fd, const char *format, ...);
void printf(const char *format, ...);
unsigned strlen(const char *text);
bool equal(const char *one, const char *other);
int number(const char *text); /* decimal; -1 if it is none */
void *malloc(unsigned size);
void free(void *block);

/* ../../lib/memory.c */
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *left, const void *right, size_t size);

int main(int count, char **arguments);
