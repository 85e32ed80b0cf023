/* Each word makes this program wait in one way. It exits with 0 if as much time passed on its clocks as it expects. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double at(int clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double begun;

static int passed(double expected) {
    double found = at(CLOCK_MONOTONIC) - begun;
    fprintf(stderr, "%.6f s passed, expected %.6f\n", found, expected);
    return found >= expected && found < expected + 0.01 ? 0 : 1;
}

static struct timespec after(int clock, double seconds) {
    double moment = at(clock) + seconds;
    return (struct timespec){(time_t)moment, (long)((moment - (double)(time_t)moment) * 1e9)};
}

static volatile sig_atomic_t rang;
static void ring(int sig) { (void)sig; rang++; }

static void handle(int sig, int flags) { sigaction(sig, &(struct sigaction){.sa_handler = ring, .sa_flags = flags}, NULL); }

static int fails(long result, int error) {
    if (result == -1 && errno == error) return 0;
    fprintf(stderr, "result %ld, errno %s\n", result, strerror(errno));
    return 1;
}

static int received(void) {
    int pair[2];
    char byte;
    struct timeval limit = {30, 0}, found = {0, 0};
    socklen_t size = sizeof found;
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    getsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &found, &size);
    if (found.tv_sec != 30 || fails(recv(pair[0], &byte, 1, 0), EAGAIN) || passed(30)) return 1;
    if (fails(read(pair[0], &byte, 1), EAGAIN) || passed(60)) return 1;
    close(pair[0]);
    /* A new socket with the same number has no time-out: the alarm comes first. */
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    handle(SIGALRM, 0);
    alarm(100);
    return fails(recv(pair[0], &byte, 1, 0), EINTR) || passed(160);
}

static int sent(void) {
    int pair[2];
    static char much[1 << 20];
    struct timeval limit = {20, 500000};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    ssize_t most = send(pair[0], much, sizeof much, 0);
    fprintf(stderr, "%zd bytes\n", most);
    return fails(send(pair[0], much, sizeof much, 0), EAGAIN) || passed(most == sizeof much ? 20.5 : 41);
}

static int alarms(void) {
    handle(SIGALRM, 0);
    alarm(1000);
    sleep(400);
    if (alarm(50) != 600) return 1;
    pause();
    if (passed(450)) return 1;
    struct itimerval each = {{2, 0}, {1, 0}}, left;
    rang = 0;
    setitimer(ITIMER_REAL, &each, NULL);
    while (rang < 3) pause();
    if (passed(455)) return 1;
    getitimer(ITIMER_REAL, &left);
    return left.it_interval.tv_sec != 2 || left.it_value.tv_sec > 2;
}

static void *in_thread(void *word) { return sleep(100), word; }

static int posix_timers(void) {
    timer_t timer;
    struct itimerspec once = {{0, 0}, {70, 0}}, left;
    handle(SIGALRM, 0);
    timer_create(CLOCK_REALTIME, NULL, &timer);
    timer_settime(timer, 0, &once, NULL);
    sleep(20);
    timer_gettime(timer, &left);
    if (left.it_value.tv_sec < 49 || left.it_value.tv_sec > 50) return 1;
    pause();
    if (passed(70)) return 1;
    once.it_value = after(CLOCK_REALTIME, 30);
    timer_settime(timer, TIMER_ABSTIME, &once, NULL);
    pause();
    return passed(100);
}

static int timer_files(void) {
    uint64_t count = 0;
    int fd = timerfd_create(CLOCK_MONOTONIC, 0), poller = epoll_create1(0);
    struct itimerspec each = {{10, 0}, {5, 0}};
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    timerfd_settime(fd, 0, &each, NULL);
    if (epoll_wait(poller, &event, 1, -1) != 1 || passed(5)) return 1;
    if (read(fd, &count, sizeof count) != sizeof count || count != 1) return 1;
    if (read(fd, &count, sizeof count) != sizeof count || passed(15)) return 1; /* blocks */
    struct itimerspec moment = {{0, 0}, after(CLOCK_MONOTONIC, 100)}, left;
    timerfd_settime(fd, TFD_TIMER_ABSTIME, &moment, NULL);
    timerfd_gettime(fd, &left);
    if (left.it_value.tv_sec < 99) return 1;
    if (read(fd, &count, sizeof count) != sizeof count || passed(115)) return 1;
    timerfd_settime(fd, 0, &(struct itimerspec){{0, 0}, {7, 0}}, NULL);
    timerfd_settime(fd, 0, &(struct itimerspec){{0, 0}, {0, 0}}, NULL); /* disarmed */
    return epoll_wait(poller, &event, 1, 60000) != 0 || passed(175);
}

static int absolute(void) {
    struct timespec moment = after(CLOCK_MONOTONIC, 40);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL);
    if (passed(40)) return 1;
    moment = after(CLOCK_REALTIME, 40);
    clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &moment, NULL);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){1, 0}, NULL); /* long ago */
    return passed(80);
}

static int futexes(void) {
    sem_t sem;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond;
    pthread_condattr_t steady;
    struct timespec moment = after(CLOCK_REALTIME, 25);
    int word = 0;
    sem_init(&sem, 0, 0);
    if (fails(sem_timedwait(&sem, &moment), ETIMEDOUT) || passed(25)) return 1;
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_cond_init(&cond, &steady);
    pthread_mutex_lock(&mutex);
    moment = after(CLOCK_MONOTONIC, 25);
    if (pthread_cond_timedwait(&cond, &mutex, &moment) != ETIMEDOUT || passed(50)) return 1;
    moment = (struct timespec){25, 0};
    if (fails(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &moment, NULL, 0), ETIMEDOUT) || passed(75)) return 1;
    if (fails(syscall(SYS_futex, &word, FUTEX_WAIT, 1, &moment, NULL, 0), EAGAIN)) return 1;
    moment = (struct timespec){1, 0};
    return fails(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &moment, NULL, ~0), ETIMEDOUT) || passed(75);
}

static int selects(void) {
    int pair[2];
    char byte;
    pipe(pair);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pair[0], &set);
    struct timeval limit = {30, 0};
    if (select(pair[0] + 1, &set, NULL, NULL, &limit) || FD_ISSET(pair[0], &set) || passed(30)) return 1;
    pid_t child = fork();
    if (child == 0) {
        sleep(10);
        write(pair[1], "x", 1);
        _exit(0);
    }
    FD_SET(pair[0], &set);
    limit = (struct timeval){30, 0};
    if (select(pair[0] + 1, &set, NULL, NULL, &limit) != 1 || !FD_ISSET(pair[0], &set) || passed(40)) return 1;
    if (limit.tv_sec < 19 || limit.tv_sec > 20) return 1; /* Linux writes what is left */
    waitpid(child, NULL, 0);
    read(pair[0], &byte, 1);
    struct pollfd one = {pair[0], POLLIN, 0};
    if (ppoll(&one, 1, &(struct timespec){15, 0}, NULL) || passed(55)) return 1;
    int poller = epoll_create1(0);
    struct epoll_event event;
    if (epoll_pwait2(poller, &event, 1, &(struct timespec){15, 0}, NULL) || passed(70)) return 1;
    sigset_t usr;
    sigemptyset(&usr);
    sigaddset(&usr, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr, NULL);
    return fails(sigtimedwait(&usr, NULL, &(struct timespec){15, 0}), EAGAIN) || passed(85);
}

/* Start a child that sends a signal after some seconds. */
static void signal_after(double seconds, int sig) {
    pid_t parent = getpid();
    if (fork() == 0) {
        usleep((useconds_t)(seconds * 1e6));
        kill(parent, sig);
        _exit(0);
    }
}

static int signals(void) {
    struct timespec left = {0, 0};
    handle(SIGUSR1, 0);
    signal_after(12, SIGUSR1);
    if (fails(nanosleep(&(struct timespec){30, 0}, &left), EINTR) || passed(12) || left.tv_sec < 17 || left.tv_sec > 18) return 1;
    signal_after(12, SIGUSR1);
    if (fails(poll(NULL, 0, 30000), EINTR) || passed(24)) return 1;
    handle(SIGUSR2, SA_RESTART);
    signal_after(6, SIGUSR2);
    if (fails(poll(NULL, 0, 30000), EINTR) || passed(30)) return 1; /* poll is never restarted */
    signal(SIGUSR1, SIG_IGN);
    signal_after(6, SIGUSR1);
    poll(NULL, 0, 30000);
    if (passed(60)) return 1;
    pid_t me = getpid();
    if (fork() == 0) { /* a wait goes on after a stop */
        sleep(10);
        kill(me, SIGSTOP);
        sleep(5);
        kill(me, SIGCONT);
        _exit(0);
    }
    sleep(40);
    return passed(100);
}

static void *sleeper(void *seconds) {
    sleep((unsigned)(intptr_t)seconds);
    return NULL;
}

static int threads(int most) {
    pthread_t all[1000];
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    for (intptr_t i = 0; i < most; i++)
        if (pthread_create(&all[i], &small, sleeper, (void *)(10 + i % 7))) return 1;
    for (int i = 0; i < most; i++) pthread_join(all[i], NULL);
    return passed(16);
}

static void *exec_in_thread(void *path) {
    char text[32];
    snprintf(text, sizeof text, "%.9f", begun);
    execl(path, path, "continued", text, NULL);
    return NULL;
}

static int exec_from_thread(char *path) {
    pthread_t other;
    sleep(5);
    pthread_create(&other, NULL, in_thread, NULL);
    pthread_create(&other, NULL, exec_in_thread, path);
    sleep(1000);
    return 1;
}

static int spawned(char *path) {
    char *words[] = {path, "sleep", NULL};
    pid_t child;
    int status;
    if (posix_spawn(&child, path, NULL, NULL, words, environ)) return 1;
    waitpid(child, &status, 0);
    return status != 0 || passed(3600);
}

static int denied(void) {
    struct timespec far = {4000000000, 0};
    if (fails(clock_settime(CLOCK_REALTIME, &far), EPERM)) return 1;
    struct timeval wall = {1000, 0};
    return fails(settimeofday(&wall, NULL), EPERM) || passed(0);
}

/* Every clock read gives the same time: of the C library, and of the kernel. */
static int clocks(void) {
    struct timespec raw;
    struct timeval wall;
    for (int clock = 0; clock < 12; clock++) {
        if (clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID || clock == 10) continue;
        if (syscall(SYS_clock_gettime, clock, &raw)) continue;
        if (raw.tv_sec + raw.tv_nsec / 1e9 != at(clock)) return clock + 1;
    }
    gettimeofday(&wall, NULL);
    if (wall.tv_sec + wall.tv_usec / 1e6 > at(CLOCK_REALTIME) || time(NULL) != wall.tv_sec) return 20;
    if (at(CLOCK_PROCESS_CPUTIME_ID) > 5) return 21; /* real */
    struct tm *date = gmtime(&wall.tv_sec);
    return date->tm_year != 126 || date->tm_mon != 0 ? 22 : 0;
}

static int spin(void) {
    while (at(CLOCK_MONOTONIC) - begun < 0.5) continue;
    return 0;
}

static int zero_polls(void) {
    while (at(CLOCK_MONOTONIC) - begun < 0.5) poll(NULL, 0, 0);
    return 0;
}

int main(int count, char **words) {
    const char *word = count > 1 ? words[1] : "";
    begun = at(CLOCK_MONOTONIC);
    if (!strcmp(word, "received")) return received();
    if (!strcmp(word, "sent")) return sent();
    if (!strcmp(word, "alarms")) return alarms();
    if (!strcmp(word, "posix_timers")) return posix_timers();
    if (!strcmp(word, "timer_files")) return timer_files();
    if (!strcmp(word, "absolute")) return absolute();
    if (!strcmp(word, "futexes")) return futexes();
    if (!strcmp(word, "selects")) return selects();
    if (!strcmp(word, "signals")) return signals();
    if (!strcmp(word, "threads")) return threads(count > 2 ? atoi(words[2]) : 1000);
    if (!strcmp(word, "exec_from_thread")) return exec_from_thread(words[0]);
    if (!strcmp(word, "continued")) return begun = atof(words[2]), sleep(5), passed(10);
    if (!strcmp(word, "spawned")) return spawned(words[0]);
    if (!strcmp(word, "sleep")) return sleep(3600), passed(3600);
    if (!strcmp(word, "denied")) return denied();
    if (!strcmp(word, "clocks")) return clocks();
    if (!strcmp(word, "spin")) return spin();
    if (!strcmp(word, "zero_polls")) return zero_polls();
    if (!strcmp(word, "io_uring")) return fails(syscall(SYS_io_uring_setup, 1, NULL), ENOSYS);
    if (!strcmp(word, "ptrace")) return (int)ptrace(PTRACE_TRACEME, 0, 0, 0) & 0;
    if (!strcmp(word, "stops")) return raise(SIGSTOP), 0;
    if (!strcmp(word, "forever")) return pause(), 0;
    if (!strcmp(word, "bomb")) for (;;) fork();
    fprintf(stderr, "unknown word %s\n", word);
    return 99;
}
