#include "cli/program.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHEBANG_MAX 256 /* what Linux itself reads of a script */

extern char **environ;

static bool is_executable(const char *path) {
  struct stat is;
  return stat(path, &is) == 0 && S_ISREG(is.st_mode) && faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static bool join(char out[BURSAR_PROGRAM_PATH_MAX], const char *directory, size_t length, const char *name) {
  int n = snprintf(out, BURSAR_PROGRAM_PATH_MAX, "%.*s%s%s", (int)length, directory,
                   length && directory[length - 1] != '/' ? "/" : "", name);
  return n > 0 && n < BURSAR_PROGRAM_PATH_MAX;
}

/* As execvp() finds it.  0 or a negative errno; -EACCES where something is there that cannot be executed. */
static int on_path(const char *name, char out[BURSAR_PROGRAM_PATH_MAX]) {
  if (strchr(name, '/')) {
    if (!join(out, "", 0, name))
      return -ENAMETOOLONG;
    return is_executable(out) ? 0 : access(out, F_OK) == 0 ? -EACCES : -errno;
  }
  int result = -ENOENT;
  const char *path = getenv("PATH");
  for (const char *at = path ? path : "/bin:/usr/bin"; *name;) {
    size_t length = strcspn(at, ":");
    if (join(out, length ? at : ".", length ? length : 1, name)) {
      if (is_executable(out))
        return 0;
      struct stat is;
      if (stat(out, &is) == 0 && S_ISREG(is.st_mode))
        result = -EACCES;
    }
    if (!at[length])
      break;
    at += length + 1;
  }
  return result;
}

/* ---- which Python ---- */

/* "python", "python3", "python3.13", "python3.13t": an interpreter's name, not python-config's. */
static bool names_python(const char *name) {
  if (strncmp(name, "python", 6) != 0)
    return false;
  name += 6;
  name += strspn(name, "0123456789.");
  return !*name || ((*name == 't' || *name == 'd' || *name == 'm') && !name[1]);
}

/* A Python in the folder of `command`, as an absolute path. */
static bool beside(const char *command, struct bursar_program_file *out) {
  static const char *const names[] = {"python", "python3"};
  char cwd[BURSAR_PROGRAM_PATH_MAX] = "";
  char folder[BURSAR_PROGRAM_PATH_MAX];
  if ((command[0] != '/' && !getcwd(cwd, sizeof cwd)) || !join(folder, cwd, strlen(cwd), command))
    return false;
  strrchr(folder, '/')[1] = 0;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (join(out->path, folder, strlen(folder), names[i]) && is_executable(out->path))
      return true;
  return false;
}

/* The Python in the folder that the command was called in (a virtual environment's links are kept), or in the one that
 * its file lies in. */
static bool python_beside(const char *invoked, struct bursar_program_file *out) {
  char command[BURSAR_PROGRAM_PATH_MAX];
  if (on_path(invoked, command) == 0 && beside(command, out))
    return true;
  ssize_t n = readlink("/proc/self/exe", command, sizeof command - 1);
  command[n > 0 ? n : 0] = 0;
  return n > 0 && beside(command, out);
}

int bursar_program_python(const char *asked, const char *invoked, struct bursar_program_file *out,
                          struct bursar_error *error) {
  if (!asked && python_beside(invoked, out))
    return BURSAR_OK;
  int result = on_path(asked ? asked : "python3", out->path);
  if (result == 0)
    return BURSAR_OK;
  if (!asked)
    return bursar_error_set(error, BURSAR_FAILED,
                            "no Python beside bursar, and no python3 on PATH: name one by --python");
  return bursar_error_set(error, BURSAR_FAILED, "no such Python: %.800s: %s", asked,
                          result == -EACCES ? "not an executable file" : strerror(-result));
}

/* ---- does it have bursar ---- */

/* The cheap answer, for a virtual environment and the like: bin/python beside lib/python3.N, the only one there, in
 * which lies the start-up file.  No answer is no proof of anything: then it is asked. */
static bool has_start_file(const char *python, struct bursar_program_file *package) {
  char path[BURSAR_PROGRAM_PATH_MAX + 300];
  char version[256] = "";
  size_t folder = (size_t)(base_name(python) - python);
  int found = 0;
  snprintf(path, sizeof path, "%.*s../lib", (int)folder, python);
  DIR *stream = opendir(path);
  for (struct dirent *item; stream && (item = readdir(stream));)
    if (strncmp(item->d_name, "python", 6) == 0) {
      found++;
      snprintf(version, sizeof version, "%s", item->d_name);
    }
  if (stream)
    closedir(stream);
  snprintf(path, sizeof path, "%.*s../lib/%s/site-packages/bursar.pth", (int)folder, python, version);
  if (found != 1 || access(path, R_OK) != 0)
    return false;
  /* An editable install has its extension elsewhere. */
  int n =
      snprintf(package->path, sizeof package->path, "%.*s../lib/%s/site-packages/bursar", (int)folder, python, version);
  snprintf(path, sizeof path, "%.*s../lib/%s/site-packages/bursar/__init__.py", (int)folder, python, version);
  return n > 0 && n < BURSAR_PROGRAM_PATH_MAX && access(path, R_OK) == 0;
}

/* The question takes the way that the real start takes: a start-up file that sees BURSAR_RUN opens the books.  No
 * process has pid 0, so that nothing comes of it but the extension, loaded.  The answer is a word and not the exit
 * status, because the caller may ignore SIGCHLD, and then there is no status to be had. */
#define QUESTION                                                                                                \
  "import sys, os; b = sys.modules.get('bursar._bursar') if sys.version_info >= (3, 10) else None\n"            \
  "sys.stdout.flush(); os.write(1, b'bursar=1;' + os.fsencode(os.path.dirname(b.__file__)) + b'\\0' if b else " \
  "b'bursar=0;')"

static int ask(const char *python, char *answer, size_t room) {
  char *argv[] = {(char *)python, (char *)"-c", (char *)QUESTION, NULL};
  posix_spawn_file_actions_t actions;
  int ends[2];
  pid_t pid;
  if (pipe2(ends, O_CLOEXEC) != 0)
    return -errno;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  setenv("BURSAR_RUN", "pid=0", 1);
  int result = -posix_spawn(&pid, python, &actions, NULL, argv, environ);
  unsetenv("BURSAR_RUN");
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  size_t used = 0;
  for (ssize_t n = 1; result == 0 && n != 0 && used < room - 1;) {
    n = read(ends[0], answer + used, room - 1 - used);
    if (n < 0 && errno != EINTR)
      break;
    used += n > 0 ? (size_t)n : 0;
  }
  close(ends[0]);
  answer[used] = 0;
  if (result == 0)
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
  return result;
}

int bursar_program_check_python(const struct bursar_program_file *python, struct bursar_program_file *package,
                                struct bursar_error *error) {
  static const char yes[] = "bursar=1;";
  char answer[BURSAR_PROGRAM_PATH_MAX + 1024];
  if (has_start_file(python->path, package))
    return BURSAR_OK;
  int result = ask(python->path, answer, sizeof answer);
  if (result < 0)
    return bursar_error_set(error, BURSAR_FAILED, "cannot start %.800s: %s", python->path, strerror(-result));
  const char *there = strstr(answer, yes);
  if (there) {
    snprintf(package->path, sizeof package->path, "%.*s", BURSAR_PROGRAM_PATH_MAX - 1, there + sizeof yes - 1);
    return BURSAR_OK;
  }
  if (strstr(answer, "bursar=0;"))
    return bursar_error_set(error, BURSAR_FAILED, "%.400s has no bursar: %.400s -m pip install bursar", python->path,
                            python->path);
  return bursar_error_set(error, BURSAR_FAILED, "%.800s is no Python that works: name another one by --python",
                          python->path);
}

/* ---- commands ---- */

/* The next word of a shebang line. */
static char *next_word(char **at) {
  char *word = *at + strspn(*at, " \t");
  *at = word + strcspn(word, " \t");
  if (**at)
    *(*at)++ = 0;
  return *word ? word : NULL;
}

/* The Python that a shebang line names, directly or through env; NULL for none. */
static const char *python_of_shebang(char *line) {
  char *word = next_word(&line);
  if (word && strcmp(base_name(word), "env") == 0) {
    do
      word = next_word(&line);
    while (word && (word[0] == '-' || strchr(word, '=')));
  }
  return word && names_python(base_name(word)) ? word : NULL;
}

static int refuse_command(const char *command, int result, struct bursar_error *error) {
  struct stat is;
  size_t length = strlen(command);
  bool script = length > 3 && strcmp(command + length - 3, ".py") == 0 && stat(command, &is) == 0;
  const char *why = result == -EACCES ? "is not executable" : "is no command on PATH";
  if (strchr(command, '/') && result != -EACCES)
    return bursar_error_set(error, BURSAR_FAILED, "cannot run %.800s: %s", command, strerror(-result));
  if (script)
    return bursar_error_set(error, BURSAR_FAILED, "%.400s %s: as a script: bursar run %.400s", command, why, command);
  return bursar_error_set(error, BURSAR_FAILED, "%.800s %s", command, why);
}

int bursar_program_command(const char *command, struct bursar_program_file *file, struct bursar_program_file *python,
                           struct bursar_error *error) {
  char head[SHEBANG_MAX + 1] = "";
  int result = on_path(command, file->path);
  if (result < 0)
    return refuse_command(command, result, error);
  if (names_python(base_name(file->path))) {
    *python = *file;
    return BURSAR_PROGRAM_PYTHON;
  }
  int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  ssize_t n = fd < 0 ? 0 : read(fd, head, SHEBANG_MAX);
  if (fd >= 0)
    close(fd);
  if (fd < 0 || n < 0) /* what may be executed need not be readable */
    return BURSAR_PROGRAM_EXECUTABLE;
  head[n] = 0;
  if (memcmp(head, "#!", 2) == 0) {
    head[strcspn(head, "\r\n")] = 0;
    const char *named = python_of_shebang(head + 2);
    if (!named)
      return BURSAR_PROGRAM_EXECUTABLE;
    result = on_path(named, python->path);
    if (result < 0)
      return bursar_error_set(error, BURSAR_FAILED, "%.800s asks for %.100s: %s", file->path, named, strerror(-result));
    return BURSAR_PROGRAM_PYTHON;
  }
  if (memchr(head, 0, (size_t)n)) /* ELF, or whatever else this kernel knows */
    return BURSAR_PROGRAM_EXECUTABLE;
  size_t length = strlen(file->path);
  return length > 3 && strcmp(file->path + length - 3, ".py") == 0 ? BURSAR_PROGRAM_SCRIPT : BURSAR_PROGRAM_SHELL;
}

bool bursar_program_is_script(const struct bursar_program_file *file) {
  const char *name = base_name(file->path);
  size_t length = strlen(name);
  char head[2] = "";
  int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  bool script = fd >= 0 && read(fd, head, sizeof head) == (ssize_t)sizeof head && memcmp(head, "#!", 2) == 0;
  if (fd >= 0)
    close(fd);
  return script || (length >= 2 && strcmp(name + length - 2, "sh") == 0);
}

bool bursar_program_names_python(const char *word) {
  struct bursar_program_file file, python;
  struct bursar_error error;
  int kind = word[0] == '-' ? BURSAR_PROGRAM_EXECUTABLE : bursar_program_command(word, &file, &python, &error);
  return kind == BURSAR_PROGRAM_PYTHON || kind == BURSAR_PROGRAM_SCRIPT;
}
