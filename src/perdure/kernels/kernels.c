/* The module perdure.kernels._compiled: see perdure/kernels/__init__.py. */

#include "kernels.h"

/* claim(): whether the kernels are for this interpreter. What they know, classes and entries, is that of one. */
static PyObject *
claim(PyObject *module, PyObject *unused)
{
    static int64_t claimed_by = -1;
    int64_t own = PyInterpreterState_GetID(PyInterpreterState_Get());
    if (claimed_by < 0) {
        claimed_by = own;
    }
    return PyBool_FromLong(claimed_by == own);
}

static PyMethodDef methods[] = {
    {"claim", claim, METH_NOARGS, "claim(): whether the kernels are for this interpreter, the first that asks"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "perdure.kernels._compiled",
    .m_doc = "The compiled part of perdure; not for use from outside.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__compiled(void)
{
    int (*const parts[])(PyObject *) = {add_changing, add_drafting, add_encoding, add_entries, add_frames,
                                        add_instances, add_joining, add_loading, add_naming, add_opening,
                                        add_quick, add_rows, add_saving, add_sealing, add_seals, add_splicing,
                                        add_tracking, add_unpickling, add_views, add_waiting, add_waking};
    PyObject *module = PyModule_Create(&definition);
    for (size_t part = 0; module != NULL && part < sizeof(parts) / sizeof(parts[0]); part++) {
        if (parts[part](module) < 0) {
            Py_CLEAR(module);
        }
    }
    return module;
}
