/* What the files of the compiled part share. Each adds its functions and types to the one module. */

#ifndef PERDURE_KERNELS_H
#define PERDURE_KERNELS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

int add_changing(PyObject *module);
int add_drafting(PyObject *module);
int add_encoding(PyObject *module);
int add_entries(PyObject *module);
int add_frames(PyObject *module);
int add_instances(PyObject *module);
int add_joining(PyObject *module);
int add_loading(PyObject *module);
int add_naming(PyObject *module);
int add_opening(PyObject *module);
int add_quick(PyObject *module);
int add_rows(PyObject *module);
int add_saving(PyObject *module);
int add_sealing(PyObject *module);
int add_seals(PyObject *module);
int add_splicing(PyObject *module);
int add_tracking(PyObject *module);
int add_unpickling(PyObject *module);
int add_views(PyObject *module);
int add_waiting(PyObject *module);
int add_waking(PyObject *module);

#endif
