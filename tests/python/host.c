/* A program that embeds Python: host PYTHON TEXT TIMES THREADED.  Runs TEXT in an interpreter that finds its library as PYTHON
 * does, ends that, and forks, TIMES over in one process; each time in a thread of its own where THREADED is 1. */
#include <Python.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWN 5000000 /* bytes: a host has memory too */

static char **words;

static int run_once(void) {
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  PyStatus status = PyConfig_SetBytesString(&config, &config.program_name, words[1]);
  if (!PyStatus_Exception(status))
    status = PyConfig_SetBytesString(&config, &config.executable, words[1]);
  if (!PyStatus_Exception(status))
    status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  if (PyStatus_Exception(status))
    return 1;
  volatile char *own = malloc(OWN);
  if (own)
    own[OWN - 1] = 1; /* or the compiler leaves it out */
  int failed = !own || PyRun_SimpleString(words[2]) != 0;
  free((void *)own);
  return Py_FinalizeEx() != 0 || failed;
}

/* Once it has ended: handlers of the interpreter's are still there. */
static int run_child(void) {
  int status = 0;
  pid_t child = fork();
  if (child == 0)
    _exit(malloc(100) ? 7 : 1);
  return child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7;
}

static void *run_in_thread(void *failed) {
  *(int *)failed = run_once();
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 5)
    return 2;
  words = argv;
  int failed = 0;
  for (int i = 0; i < atoi(argv[3]) && !failed; i++) {
    pthread_t thread;
    if (atoi(argv[4]) == 0)
      failed = run_once();
    else if (pthread_create(&thread, NULL, run_in_thread, &failed) != 0 || pthread_join(thread, NULL) != 0)
      failed = 1;
    failed = failed || run_child();
    printf("ended\n");
    fflush(stdout);
  }
  return failed;
}
