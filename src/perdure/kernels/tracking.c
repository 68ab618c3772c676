/* Git's index, and the files that it tracks: the loops of perdure/code/index.py, which says what they mean; and which
   file a path leads to, for perdure/backends/sqlite/watch.py. */

#include "kernels.h"

#include <sys/stat.h>

enum { MODE, RAW, SIZE, SECONDS, NANOSECONDS, TOLD, SETTLED, TRACKED }; /* the parts of a tracked file */

#define DIRECTORY 0040000u
#define SUBMODULE 0160000u
#define ASSUME_VALID 0x8000u
#define EXTENDED 0x4000u
#define STAGE 0x3000u
#define SKIP_WORK_TREE 0x4000u
#define INTENT_TO_ADD 0x2000u

static uint32_t
get_big(const unsigned char *at, int bytes)
{
    uint32_t number = 0;
    for (int place = 0; place < bytes; place++) {
        number = number << 8 | at[place];
    }
    return number;
}

/* -- the index ------------------------------------------------------------------------------------------------- */

/* Fill a tuple with what an entry tells; -1 with an exception. */
static int
fill(PyObject *tracked, const unsigned char *entry, Py_ssize_t id_size, uint32_t flags, uint32_t more)
{
    PyObject *parts[TRACKED] = {
        PyLong_FromUnsignedLong(get_big(entry + 24, 4)),
        PyBytes_FromStringAndSize((const char *)entry + 40, id_size),
        PyLong_FromUnsignedLong(get_big(entry + 36, 4)),
        PyLong_FromUnsignedLong(get_big(entry + 8, 4)),
        PyLong_FromUnsignedLong(get_big(entry + 12, 4)),
        PyBool_FromLong(!(flags & ASSUME_VALID || more & SKIP_WORK_TREE)),
        PyBool_FromLong(!(flags & STAGE || more & INTENT_TO_ADD)),
    };
    int filled = 0;
    for (int part = 0; part < TRACKED; part++) {
        PyTuple_SET_ITEM(tracked, part, parts[part]);
        filled = parts[part] == NULL ? -1 : filled;
    }
    PyObject_GC_UnTrack(tracked); /* it leads to nothing: the collector of garbage need not look at thousands of them */
    return filled;
}

/* Note the entry at `place`; gives where the next one begins, 0 if that is left to Python, -1 with an exception. */
static Py_ssize_t
take_entry(PyObject *files, PyTypeObject *type, PyObject *data, Py_ssize_t place, Py_ssize_t id_size)
{
    const unsigned char *bytes = (const unsigned char *)PyBytes_AS_STRING(data);
    Py_ssize_t begin = place + 42 + id_size, size = PyBytes_GET_SIZE(data);
    if (begin + 2 > size) {
        return 0;
    }
    uint32_t flags = get_big(bytes + begin - 2, 2), more = 0;
    if (flags & EXTENDED) {
        more = get_big(bytes + begin, 2);
        begin += 2;
    }
    const unsigned char *end = memchr(bytes + begin, 0, (size_t)(size - begin));
    if (end == NULL || get_big(bytes + place + 24, 4) == DIRECTORY) {
        return 0;
    }
    PyObject *path = PyUnicode_DecodeFSDefaultAndSize((const char *)bytes + begin, end - bytes - begin);
    PyObject *tracked = path == NULL ? NULL : type->tp_alloc(type, TRACKED);
    int noted = tracked == NULL ? -1 : fill(tracked, bytes + place, id_size, flags, more);
    if (noted == 0) {
        noted = PyDict_SetItem(files, path, tracked);
    }
    Py_XDECREF(path);
    Py_XDECREF(tracked);
    return noted < 0 ? -1 : place + ((end - bytes - place + 8) & ~(Py_ssize_t)7);
}

/* tracked_files(data, place, count, id_size, Tracked): so many files by path, and where they end in the bytes of an
   index; NotImplemented where anything is as it mostly is not. */
static PyObject *
tracked_files(PyObject *module, PyObject *args)
{
    PyObject *data, *type;
    Py_ssize_t place, count, id_size;
    if (!PyArg_ParseTuple(args, "O!nnnO!", &PyBytes_Type, &data, &place, &count, &id_size, &PyType_Type, &type)) {
        return NULL;
    }
    if (!PyType_FastSubclass((PyTypeObject *)type, Py_TPFLAGS_TUPLE_SUBCLASS) || place < 0 || id_size < 0
        || id_size > 64) {
        PyErr_SetString(PyExc_ValueError, "tracked_files takes what the function in Python takes");
        return NULL;
    }
    PyObject *files = PyDict_New();
    for (; files != NULL && count > 0; count--) {
        place = take_entry(files, (PyTypeObject *)type, data, place, id_size);
        if (place <= 0) {
            Py_DECREF(files);
            return place < 0 ? NULL : Py_NewRef(Py_NotImplemented);
        }
    }
    PyObject *result = files == NULL ? NULL : Py_BuildValue("(On)", files, place);
    Py_XDECREF(files);
    return result;
}

/* -- one file -------------------------------------------------------------------------------------------------- */

#ifdef __linux__
/* identity_of(path): the device of a file and its number there. `os.stat` tells three times as much in three forms. */
static PyObject *
identity_of(PyObject *module, PyObject *path)
{
    PyObject *encoded;
    struct stat status;
    int failed;
    if (!PyUnicode_FSConverter(path, &encoded)) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    failed = stat(PyBytes_AS_STRING(encoded), &status);
    Py_END_ALLOW_THREADS
    Py_DECREF(encoded);
    if (failed) {
        return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    }
    return Py_BuildValue("(KK)", (unsigned long long)status.st_dev, (unsigned long long)status.st_ino);
}
#define IDENTITY_OF {"identity_of", identity_of, METH_O, "identity_of(path): its device, and its number there"},
#else
#define IDENTITY_OF
#endif

/* -- the work tree --------------------------------------------------------------------------------------------- */

#if defined(HAVE_LSTAT) && (defined(__linux__) || defined(__APPLE__))

#include <fcntl.h>
#include <unistd.h>

#ifdef __APPLE__
#define CHANGED_AT st_mtimespec
#define O_PATH O_RDONLY
#else
#define CHANGED_AT st_mtim
#endif

/* A file whose place is looked at. */
typedef struct {
    PyObject *path, *encoded; /* as the index has it; in bytes, or NULL */
    const char *place;        /* in one of the two; NULL where none is looked at */
    long long mode, size, seconds, nanoseconds;
    int is_like;
} Looked;

/* Compare what the file system tells with what the index does, without the lock of the interpreter. */
static void
look(const char *root, Looked *all, Py_ssize_t count, long long written, long long rest)
{
    Py_BEGIN_ALLOW_THREADS
    int directory = *root == 0 ? AT_FDCWD : open(root, O_PATH | O_DIRECTORY | O_CLOEXEC); /* -1: nothing is there */
    for (Looked *each = all; each < all + count; each++) {
        struct stat status;
        if (each->place == NULL || fstatat(directory, each->place, &status, AT_SYMLINK_NOFOLLOW) != 0) {
            continue;
        }
        long long seconds = status.CHANGED_AT.tv_sec, nanoseconds = status.CHANGED_AT.tv_nsec;
        int as_told = seconds == each->seconds && (!each->nanoseconds || nanoseconds == each->nanoseconds);
        int is_older = seconds < written || (seconds == written && nanoseconds < rest);
        each->is_like = as_told && is_older && status.st_size == each->size
                     && !(((long long)status.st_mode ^ each->mode) & S_IFMT);
    }
    if (directory >= 0) {
        close(directory);
    }
    Py_END_ALLOW_THREADS
}

/* Take down what is to be looked at; 0 if the file is not, -1 with an exception. */
static int
prepare(Looked *looked, PyObject *path, PyObject *tracked)
{
    if (!PyUnicode_CheckExact(path) || !PyTuple_Check(tracked) || PyTuple_GET_SIZE(tracked) != TRACKED) {
        PyErr_SetString(PyExc_TypeError, "doubtful_files takes tracked files by path");
        return -1;
    }
    *looked = (Looked){
        .mode = PyLong_AsLongLong(PyTuple_GET_ITEM(tracked, MODE)),
        .size = PyLong_AsLongLong(PyTuple_GET_ITEM(tracked, SIZE)),
        .seconds = PyLong_AsLongLong(PyTuple_GET_ITEM(tracked, SECONDS)),
        .nanoseconds = PyLong_AsLongLong(PyTuple_GET_ITEM(tracked, NANOSECONDS)),
    };
    if (PyErr_Occurred()) {
        return -1;
    }
    if (PyTuple_GET_ITEM(tracked, SETTLED) == Py_True) {
        if (PyTuple_GET_ITEM(tracked, TOLD) != Py_True || looked->mode == SUBMODULE) {
            return 0;
        }
        if (PyUnicode_IS_COMPACT_ASCII(path)) {
            looked->place = PyUnicode_DATA(path);
        } else if ((looked->encoded = PyUnicode_EncodeFSDefault(path)) == NULL) {
            return -1;
        } else {
            looked->place = PyBytes_AS_STRING(looked->encoded);
        }
    }
    looked->path = Py_NewRef(path);
    return 1;
}

/* The paths of those that are not like the index. */
static PyObject *
unlike(const Looked *all, Py_ssize_t count)
{
    PyObject *paths = PyList_New(0);
    for (const Looked *each = all; paths != NULL && each < all + count; each++) {
        if (!each->is_like && PyList_Append(paths, each->path) < 0) {
            Py_CLEAR(paths);
        }
    }
    return paths;
}

/* doubtful_files(root, files, seconds, nanoseconds): the paths of those tracked files that do not look as the index has
   them, which was written then. */
static PyObject *
doubtful_files(PyObject *module, PyObject *args)
{
    PyObject *root, *files, *path, *tracked, *paths = NULL;
    long long written, rest;
    if (!PyArg_ParseTuple(args, "O&O!LL", PyUnicode_FSConverter, &root, &PyDict_Type, &files, &written, &rest)) {
        return NULL;
    }
    Py_ssize_t count = 0, position = 0;
    int prepared = 0;
    Looked *all = PyMem_New(Looked, (size_t)PyDict_GET_SIZE(files) + 1);
    if (all == NULL) {
        Py_DECREF(root);
        return PyErr_NoMemory();
    }
    while (prepared >= 0 && PyDict_Next(files, &position, &path, &tracked)) {
        prepared = prepare(&all[count], path, tracked);
        count += prepared > 0;
    }
    if (prepared >= 0) {
        look(PyBytes_AS_STRING(root), all, count, written, rest);
        paths = unlike(all, count);
    }
    for (Looked *each = all; each < all + count; each++) {
        Py_DECREF(each->path);
        Py_XDECREF(each->encoded);
    }
    PyMem_Free(all);
    Py_DECREF(root);
    return paths;
}

#define DOUBTFUL_FILES \
    {"doubtful_files", doubtful_files, METH_VARARGS, "doubtful_files(root, files, seconds, nanoseconds)"},
#else
#define DOUBTFUL_FILES
#endif

static PyMethodDef methods[] = {
    DOUBTFUL_FILES
    IDENTITY_OF
    {"tracked_files", tracked_files, METH_VARARGS, "tracked_files(data, place, count, id_size, Tracked)"},
    {NULL, NULL, 0, NULL},
};

int
add_tracking(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
