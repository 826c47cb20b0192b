/* compat.h: everything that differs between Python versions.  The only place with PY_VERSION_HEX.
 *
 * A frame is the interpreter's own record, never a frame object made for us (that would allocate).  All that is read here is
 * plain memory of the calling thread; nothing is called that allocates, locks or runs Python.  Main GIL, class H.
 *
 * How frames look, by version:
 *   3.10         PyFrameObject; f_lasti is the unit, -1 before the start
 *   3.11, 3.12   _PyInterpreterFrame below tstate->cframe; prev_instr is one unit behind, may sit on a cache entry, and one
 *                before the code at the start; 3.12 puts an entry frame without a function on the C stack
 *   3.13         below tstate; instr_ptr is the instruction at work; f_executable is None on the C stack
 *   3.14         the same behind a tagged reference; entry frames are owned by the interpreter
 * A version that is not known here walks no frames: it counts, and says so. */
#ifndef BURSAR_PYEXT_COMPAT_H
#define BURSAR_PYEXT_COMPAT_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_BUILD_CORE
  #define Py_BUILD_CORE 1 /* the interpreter's own headers, for its frames; before Python.h, which looks at it too */
#endif
#include <Python.h>

#if PY_VERSION_HEX < 0x030a0000
  #error "bursar needs CPython 3.10 or later"
#endif
#ifdef Py_GIL_DISABLED
  #error "bursar keeps exact books under the GIL: free-threaded builds of Python are not supported"
#endif

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#if PY_VERSION_HEX < \
    0x030b0000 /* ------------------------------------------------------------------------------ 3.10 */

  #include <frameobject.h>
  #include <internal/pycore_interp.h>
  #include <internal/pycore_runtime.h>

  #define BURSAR_KNOWS_FRAMES 1
typedef struct _frame bursar_frame;
typedef uintptr_t bursar_position;

static inline PyThreadState *bursar_thread(void) {
  return (PyThreadState *)__atomic_load_n((uintptr_t *)&_PyRuntime.gilstate.tstate_current._value, __ATOMIC_RELAXED);
}
static inline bursar_frame *bursar_frame_top(const PyThreadState *thread) { return thread->frame; }
static inline bursar_frame *bursar_frame_caller(const bursar_frame *frame) { return frame->f_back; }
/* A number that says both which code and where in it, as long as the code lives: frames are used again, for other code too.
 * Not by the address of its bytes: code objects of one file share equal ones.  Code objects are 16-aligned and below 2^47,
 * which leaves 21 bits for the unit, around the address. */
static inline bursar_position bursar_frame_position(const bursar_frame *frame) {
  uint64_t unit = (uint32_t)(frame->f_lasti + 1);
  return (uintptr_t)frame->f_code ^ (unit << 47 | unit >> 17);
}
static inline PyCodeObject *bursar_frame_code(const bursar_frame *frame) { return frame->f_code; }
static inline PyObject *bursar_frame_globals(const bursar_frame *frame) { return frame->f_globals; }
static inline uintptr_t bursar_frame_place(const bursar_frame *frame) { return bursar_frame_position(frame); }
/* The code unit that a position stands for; -1 before the start. */
static inline Py_ssize_t bursar_code_unit(PyCodeObject *code, bursar_position position) {
  uint64_t unit = position ^ (uintptr_t)code;
  return (Py_ssize_t)(uint32_t)(unit >> 47 | unit << 17) - 1;
}
static inline Py_ssize_t bursar_code_units(PyCodeObject *code) { return PyBytes_GET_SIZE(code->co_code) / 2; }

#elif PY_VERSION_HEX < \
    0x030f0000 /* ---------------------------------------------------------------------- 3.11 to 3.14 */

  #if PY_VERSION_HEX >= 0x030e0000
    #include <internal/pycore_interpframe_structs.h>
  #else
    #include <internal/pycore_frame.h>
  #endif
  #include <internal/pycore_interp.h>
  #if PY_VERSION_HEX < 0x030c0000
    #include <internal/pycore_runtime.h>
  #endif

  #define BURSAR_KNOWS_FRAMES 1
typedef struct _PyInterpreterFrame bursar_frame;
typedef const _Py_CODEUNIT *bursar_position;

static inline PyThreadState *bursar_thread(void) {
  #if PY_VERSION_HEX < 0x030c0000
  return (PyThreadState *)__atomic_load_n((uintptr_t *)&_PyRuntime.gilstate.tstate_current._value, __ATOMIC_RELAXED);
  #elif PY_VERSION_HEX < 0x030d0000
  return _PyThreadState_UncheckedGet();
  #else
  return PyThreadState_GetUnchecked();
  #endif
}

static inline bursar_frame *bursar_frame_top(const PyThreadState *thread) {
  #if PY_VERSION_HEX < 0x030d0000
  return thread->cframe->current_frame;
  #else
  return thread->current_frame;
  #endif
}

static inline bursar_frame *bursar_frame_caller(const bursar_frame *frame) { return frame->previous; }

static inline bursar_position bursar_frame_position(const bursar_frame *frame) {
  #if PY_VERSION_HEX < 0x030d0000
  return frame->prev_instr;
  #else
  return frame->instr_ptr;
  #endif
}

  #if PY_VERSION_HEX >= 0x030c0000
/* The code below __init__ in a call of a class is the interpreter's own (_Py_InitCleanup): it has no line from which on a
 * traceback shows it. */
static inline PyCodeObject *bursar_code_shown(PyCodeObject *code) {
  return code->_co_firsttraceable < Py_SIZE(code) ? code : NULL;
}
  #endif

/* NULL for frames that only mark an entry from C, and for those that no traceback shows. */
static inline PyCodeObject *bursar_frame_code(const bursar_frame *frame) {
  #if PY_VERSION_HEX < 0x030c0000
  return frame->f_code;
  #elif PY_VERSION_HEX < 0x030d0000
  return frame->owner == FRAME_OWNED_BY_CSTACK ? NULL : bursar_code_shown(frame->f_code);
  #elif PY_VERSION_HEX < 0x030e0000
  return frame->owner == FRAME_OWNED_BY_CSTACK ? NULL : bursar_code_shown((PyCodeObject *)frame->f_executable);
  #else
  if (frame->owner == FRAME_OWNED_BY_INTERPRETER || frame->owner == FRAME_OWNED_BY_CSTACK)
    return NULL;
  /* without the tag: Py_TAG_BITS and its successors */
  return bursar_code_shown((PyCodeObject *)(frame->f_executable.bits & ~(uintptr_t)3));
  #endif
}

static inline PyObject *bursar_frame_globals(const bursar_frame *frame) { return frame->f_globals; }

static inline uintptr_t bursar_frame_place(const bursar_frame *frame) {
  return (uintptr_t)bursar_frame_position(frame);
}

static inline Py_ssize_t bursar_code_unit(PyCodeObject *code, bursar_position position) {
  return position - (const _Py_CODEUNIT *)code->co_code_adaptive;
}
static inline Py_ssize_t bursar_code_units(PyCodeObject *code) { return Py_SIZE(code); }

#else /* ---------------------------------------------------------------------------------------------------- not yet known */

  #define BURSAR_KNOWS_FRAMES 0
typedef void bursar_frame;
typedef uintptr_t bursar_position;

static inline PyThreadState *bursar_thread(void) { return PyThreadState_GetUnchecked(); }
static inline bursar_frame *bursar_frame_top(const PyThreadState *thread) { return NULL; }
static inline bursar_frame *bursar_frame_caller(const bursar_frame *frame) { return NULL; }
static inline bursar_position bursar_frame_position(const bursar_frame *frame) { return 0; }
static inline PyCodeObject *bursar_frame_code(const bursar_frame *frame) { return NULL; }
static inline PyObject *bursar_frame_globals(const bursar_frame *frame) { return NULL; }
static inline uintptr_t bursar_frame_place(const bursar_frame *frame) { return 0; }
static inline Py_ssize_t bursar_code_unit(PyCodeObject *code, bursar_position position) { return -1; }
static inline Py_ssize_t bursar_code_units(PyCodeObject *code) { return 0; }

#endif

/* Are there other thread states in this thread's interpreter?  New ones are put at the head of the list. */
static inline bool bursar_thread_has_company(const PyThreadState *thread) { return thread->prev || thread->next; }

/* Line tables: pairs of bytes until 3.10, variable-length entries since. */
#define BURSAR_LINES_IN_PAIRS (PY_VERSION_HEX < 0x030b0000)

/* Does this thread, which may be any, hold the GIL that the main interpreter runs under? */
static inline bool bursar_holds_main_gil(void) {
#if PY_VERSION_HEX < 0x030c0000
  /* The thread that holds the GIL is the one whose state is current; a state's owner is asked by thread-local storage, as
   * PyGILState_GetThisThreadState does it in three calls. */
  PyThreadState *thread = bursar_thread();
  return thread && thread == pthread_getspecific(_PyRuntime.gilstate.autoTSSkey._key);
#elif PY_VERSION_HEX < 0x030f0000
  PyThreadState *thread = bursar_thread();
  return thread && (thread->interp == PyInterpreterState_Main() || !thread->interp->ceval.own_gil);
#else
  PyThreadState *thread = bursar_thread();
  return thread && thread->interp == PyInterpreterState_Main();
#endif
}

/* The state of this thread, which holds no GIL, in the main interpreter; NULL where it has none.  Its frames stand still until
 * it takes the GIL again, or the interpreter ends (then the state may be freed, and the answer is NULL only from when that
 * began). */
static inline PyThreadState *bursar_thread_detached(void) {
#if PY_VERSION_HEX < 0x030c0000
  PyThreadState *thread =
      _PyRuntime.gilstate.autoTSSkey._is_initialized ? pthread_getspecific(_PyRuntime.gilstate.autoTSSkey._key) : NULL;
#else
  PyThreadState *thread = PyGILState_GetThisThreadState();
#endif
#if PY_VERSION_HEX < 0x030d0000
  bool ending = _Py_IsFinalizing();
#else
  bool ending = Py_IsFinalizing();
#endif
  return thread && !ending && thread->interp == PyInterpreterState_Main() ? thread : NULL;
}

/* bursar_holds_main_gil for a thread that calls a hook of OBJ or MEM: it does hold a GIL, and until 3.11 there is only one. */
#if PY_VERSION_HEX < 0x030c0000
  #define BURSAR_ONE_GIL 1
#else
  #define BURSAR_ONE_GIL 0
#endif

/* --- the interpreter's loop on the native stack ------------------------------------------------------------------------- */

/* The loop (_PyEval_EvalFrameDefault) runs frames until one that was entered from C.  Each of its calls has a record on its
 * own part of the native stack, which says where there the frames belong:
 *   3.10         a CFrame for each frame
 *   3.11         a _PyCFrame, whose first frame has is_entry
 *   3.12 and on  the entry frame itself, which is part of the chain */
#if PY_VERSION_HEX < 0x030b0000
typedef CFrame bursar_loop;
  #define BURSAR_LOOP_RUNS_ONE 1
static inline const bursar_frame *bursar_loop_frame(const bursar_loop *loop) { return NULL; }
static inline bool bursar_frame_enters(const bursar_frame *frame) { return true; }
static inline bool bursar_loop_runs(const bursar_loop *loop, const bursar_frame *innermost) { return true; }
#elif PY_VERSION_HEX < 0x030c0000
typedef _PyCFrame bursar_loop;
  #define BURSAR_LOOP_RUNS_ONE 0
static inline const bursar_frame *bursar_loop_frame(const bursar_loop *loop) { return loop->current_frame; }
static inline bool bursar_frame_enters(const bursar_frame *frame) { return frame->is_entry; }
static inline bool bursar_loop_runs(const bursar_loop *loop, const bursar_frame *innermost) {
  return loop->current_frame == innermost;
}
#else
typedef void bursar_loop;
  #define BURSAR_LOOP_RUNS_ONE 0
#endif

/* A place on the native stack that no loop has. */
#define BURSAR_NO_LOOP UINTPTR_MAX

#if PY_VERSION_HEX < 0x030c0000
static inline const bursar_loop *bursar_loop_innermost(const PyThreadState *thread) { return thread->cframe; }
/* The native place of the loop that runs these frames, which is `*loop` or further out; *loop is then the next one. */
static inline uintptr_t bursar_loop_place(const PyThreadState *thread, const bursar_loop **loop,
                                          const bursar_frame *innermost, const bursar_frame *outermost) {
  const bursar_loop *at = *loop;
  while (at && at != &thread->root_cframe && !bursar_loop_runs(at, innermost))
    at = at->previous;
  if (!at || at == &thread->root_cframe)
    return BURSAR_NO_LOOP;
  *loop = at->previous;
  return (uintptr_t)at;
}
/* The next loop further out, NULL where there is none; *frame is the innermost one that it runs. */
static inline const bursar_loop *bursar_loop_outer(const PyThreadState *thread, const bursar_loop *loop,
                                                   const bursar_frame **frame) {
  const bursar_loop *outer = loop && loop != &thread->root_cframe ? loop->previous : NULL;
  if (!outer || outer == &thread->root_cframe)
    return NULL;
  *frame = bursar_loop_frame(outer);
  return outer;
}
  #define BURSAR_LOOPS_ARE_LISTED 1 /* apart from the frames */
/* ... and of the outermost one that there is. */
static inline uintptr_t bursar_loop_outermost(const PyThreadState *thread, const bursar_frame *outermost) {
  const bursar_loop *at = thread->cframe;
  if (!at || at == &thread->root_cframe)
    return BURSAR_NO_LOOP;
  while (at->previous && at->previous != &thread->root_cframe)
    at = at->previous;
  return (uintptr_t)at;
}
#else
  #if !BURSAR_KNOWS_FRAMES
static inline bool bursar_frame_enters(const bursar_frame *frame) { return false; }
  #elif PY_VERSION_HEX < 0x030e0000
static inline bool bursar_frame_enters(const bursar_frame *frame) { return frame->owner == FRAME_OWNED_BY_CSTACK; }
  #else
static inline bool bursar_frame_enters(const bursar_frame *frame) {
  return frame->owner == FRAME_OWNED_BY_INTERPRETER || frame->owner == FRAME_OWNED_BY_CSTACK;
}
  #endif
  #define BURSAR_LOOPS_ARE_LISTED 0
static inline const bursar_loop *bursar_loop_innermost(const PyThreadState *thread) { return NULL; }
static inline const bursar_loop *bursar_loop_outer(const PyThreadState *thread, const bursar_loop *loop,
                                                   const bursar_frame **frame) {
  return NULL;
}
static inline uintptr_t bursar_loop_place(const PyThreadState *thread, const bursar_loop **loop,
                                          const bursar_frame *innermost, const bursar_frame *outermost) {
  return bursar_frame_enters(outermost) ? (uintptr_t)outermost : BURSAR_NO_LOOP;
}
static inline uintptr_t bursar_loop_outermost(const PyThreadState *thread, const bursar_frame *outermost) {
  return outermost && bursar_frame_enters(outermost) ? (uintptr_t)outermost : BURSAR_NO_LOOP;
}
#endif

/* --- where the interpreter leaves what it no longer needs ----------------------------------------------------------------- */

/* The part of the thread's data stack (3.11 and on) that no frame uses; 0 bytes where there is none. */
static inline size_t bursar_datastack_rest(PyThreadState *thread, void **from) {
#if PY_VERSION_HEX >= 0x030b0000
  *from = thread->datastack_top;
  if (thread->datastack_top && thread->datastack_limit > thread->datastack_top)
    return (size_t)((char *)thread->datastack_limit - (char *)thread->datastack_top);
#endif
  return 0;
}

/* 3.10 keeps the tables of small dictionaries for the next ones with their hashes, and an integer's hash is its value. */
#if PY_VERSION_HEX < 0x030b0000
  #define BURSAR_KEPT_TABLES 80
#else
  #define BURSAR_KEPT_TABLES 0
#endif

/* One process keeps one set of books, whoever asks: the module itself has no state that interpreters could share badly. */
#if PY_VERSION_HEX >= 0x030c0000
  #define BURSAR_MODULE_SLOTS {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#else
  #define BURSAR_MODULE_SLOTS
#endif

/* --- ints: their digits, lowest first ------------------------------------------------------------------------------- */

#if PY_VERSION_HEX < 0x030b0000
  #include <longintrepr.h>
#endif

static inline const digit *bursar_int_digits(PyObject *number, Py_ssize_t *count) {
#if PY_VERSION_HEX < 0x030c0000
  *count = Py_ABS(Py_SIZE(number));
  return ((PyLongObject *)number)->ob_digit;
#else
  *count = (Py_ssize_t)(((PyLongObject *)number)->long_value.lv_tag >> 3);
  return ((PyLongObject *)number)->long_value.ob_digit;
#endif
}

/* --- a frame's local variables: their values, and their names --------------------------------------------------------- */

#if BURSAR_KNOWS_FRAMES
/* False: its locals may be being given up, and some are gone.  Up to 3.11.1 a frame stays in the chain while that is done; its
 * stack is put away then, as it is while a function of Python's is called, and what runs began in C (`inner`; NULL: nothing). */
static inline bool bursar_frame_has_locals(const bursar_frame *frame, const bursar_frame *inner) {
  #if PY_VERSION_HEX >= 0x030b0000 && PY_VERSION_HEX < 0x030c0000
  return Py_Version >= 0x030b0200 || frame->stacktop < 0 || (inner && !inner->is_entry);
  #else
  return true;
  #endif
}
static inline Py_ssize_t bursar_frame_local_count(PyCodeObject *code) {
  #if PY_VERSION_HEX < 0x030b0000
  return code->co_nlocals + PyTuple_GET_SIZE(code->co_cellvars) + PyTuple_GET_SIZE(code->co_freevars);
  #else
  return code->co_nlocalsplus;
  #endif
}
/* Borrowed; NULL where it has none. */
static inline PyObject *bursar_frame_local(const bursar_frame *frame, Py_ssize_t i) {
  #if PY_VERSION_HEX < 0x030b0000
  return frame->f_localsplus[i];
  #elif PY_VERSION_HEX < 0x030e0000
  return frame->localsplus[i];
  #else
  uintptr_t bits = frame->localsplus[i].bits;
  return (bits & 3) == 3 ? NULL : (PyObject *)(bits & ~(uintptr_t)3); /* a tagged int; else without the tag */
  #endif
}
static inline PyObject *bursar_frame_local_name(PyCodeObject *code, Py_ssize_t i) {
  #if PY_VERSION_HEX < 0x030b0000
  Py_ssize_t cells = PyTuple_GET_SIZE(code->co_cellvars);
  if (i < code->co_nlocals)
    return PyTuple_GET_ITEM(code->co_varnames, i);
  i -= code->co_nlocals;
  return i < cells ? PyTuple_GET_ITEM(code->co_cellvars, i) : PyTuple_GET_ITEM(code->co_freevars, i - cells);
  #else
  return PyTuple_GET_ITEM(code->co_localsplusnames, i);
  #endif
}
#else
static inline bool bursar_frame_has_locals(const bursar_frame *frame, const bursar_frame *inner) { return false; }
static inline Py_ssize_t bursar_frame_local_count(PyCodeObject *code) { return 0; }
static inline PyObject *bursar_frame_local(const bursar_frame *frame, Py_ssize_t i) { return NULL; }
static inline PyObject *bursar_frame_local_name(PyCodeObject *code, Py_ssize_t i) { return NULL; }
#endif

/* --- what a refused allocation must know of its thread ---------------------------------------------------------------- */

/* The least block of PyMem's that can be refused.  Since 3.13 the compiler does not bear it where a dictionary of its cannot grow
 * (in 3.13.0 its constants are then freed twice): its dictionaries stay below this. */
#define BURSAR_BEARS_MEM (PY_VERSION_HEX < 0x030d0000 ? 512u : 65536u)

#if BURSAR_KNOWS_FRAMES
/* An exception is set: whoever handles it cannot handle another. */
static inline bool bursar_thread_fails(const PyThreadState *thread) {
  #if PY_VERSION_HEX < 0x030c0000
  return thread->curexc_type != NULL;
  #else
  return thread->current_exception != NULL;
  #endif
}
static inline bool bursar_thread_collects(const PyThreadState *thread) { return thread->interp->gc.collecting != 0; }
/* Raises an exception in the calling thread between two instructions, as PyThreadState_SetAsyncExc does, which would take a lock
 * that may be held where an allocation is made.  False: another is on its way. */
static inline bool bursar_thread_interrupt(PyThreadState *thread, PyObject *exception) {
  if (thread->async_exc)
    return false;
  thread->async_exc = Py_NewRef(exception);
  #if PY_VERSION_HEX < 0x030d0000
  thread->interp->ceval.pending.async_exc = 1;
  _Py_atomic_store_relaxed(&thread->interp->ceval.eval_breaker, 1);
  #else
  __atomic_fetch_or(&thread->eval_breaker, (uintptr_t)1 << 3, __ATOMIC_SEQ_CST); /* _PY_ASYNC_EXCEPTION_BIT */
  #endif
  return true;
}
/* Takes it back, if it has not been raised. */
static inline void bursar_thread_calm(PyThreadState *thread, PyObject *exception) {
  if (thread->async_exc == exception)
    Py_CLEAR(thread->async_exc);
}
#else
static inline bool bursar_thread_fails(const PyThreadState *thread) { return true; }
static inline bool bursar_thread_collects(const PyThreadState *thread) { return true; }
static inline bool bursar_thread_interrupt(PyThreadState *thread, PyObject *exception) { return false; }
static inline void bursar_thread_calm(PyThreadState *thread, PyObject *exception) {}
#endif

/* --- what a frame is at, and calls ------------------------------------------------------------------------------------------ */

#include <opcode.h>
#ifdef IMPORT_STAR /* until 3.11 */
  #define BURSAR_OPCODE_STAR IMPORT_STAR
#else
  #define BURSAR_OPCODE_STAR CALL_INTRINSIC_1
#endif

/* The instruction that a frame is executing, as far as it calls into C; -1 where that is not known. */
static inline int bursar_frame_opcode(const bursar_frame *frame) {
#if !BURSAR_KNOWS_FRAMES
  return -1;
#else
  #if PY_VERSION_HEX < 0x030b0000
  const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(frame->f_code->co_code) + 2 * frame->f_lasti;
  #else
  const unsigned char *at = (const unsigned char *)bursar_frame_position(frame);
  #endif
  while (*at == EXTENDED_ARG) /* 3.10 stays at the first of them */
    at += 2;
  return *at;
#endif
}

/* Has `hook` called at the beginning of each frame, whichever thread's, with its globals.  False: this version has
 * sys.monitoring for that.  No call is inlined from then on: Python calls take native stack, as they do in 3.10. */
#if PY_VERSION_HEX < 0x030c0000
static void (*bursar_calls_hook)(PyObject *globals) __attribute__((unused));
static PyObject *bursar_calls_run(PyThreadState *thread, bursar_frame *frame, int throwing) {
  bursar_calls_hook(bursar_frame_globals(frame));
  return _PyEval_EvalFrameDefault(thread, frame, throwing);
}
static inline bool bursar_calls_follow(void (*hook)(PyObject *globals)) {
  bursar_calls_hook = hook;
  _PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Main(), bursar_calls_run);
  return true;
}
/* Is it still called? */
static inline bool bursar_calls_followed(void) {
  return _PyInterpreterState_GetEvalFrameFunc(PyInterpreterState_Main()) == bursar_calls_run;
}
#else
static inline bool bursar_calls_follow(void (*hook)(PyObject *globals)) { return false; }
static inline bool bursar_calls_followed(void) { return true; }
#endif

/* What is called in between is in no trace or profile of the program's. */
static inline void bursar_tracing_pause(PyThreadState *thread) {
#if PY_VERSION_HEX < 0x030b0000
  thread->tracing++;
  thread->cframe->use_tracing = 0;
#else
  PyThreadState_EnterTracing(thread);
#endif
}
static inline void bursar_tracing_go_on(PyThreadState *thread) {
#if PY_VERSION_HEX < 0x030b0000
  thread->tracing--;
  thread->cframe->use_tracing = thread->tracing == 0 && (thread->c_tracefunc || thread->c_profilefunc) ? 255 : 0;
#else
  PyThreadState_LeaveTracing(thread);
#endif
}

#endif
