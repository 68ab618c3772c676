/* The module perdure.kernels._compiled: see perdure/kernels/__init__.py. */

#include "kernels.h"

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "perdure.kernels._compiled",
    .m_doc = "The compiled part of perdure; not for use from outside.",
    .m_size = -1,
};

PyMODINIT_FUNC
PyInit__compiled(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL
        && (add_entries(module) < 0 || add_frames(module) < 0 || add_loading(module) < 0 || add_opening(module) < 0)) {
        Py_CLEAR(module);
    }
    return module;
}
