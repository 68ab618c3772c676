/* The parts of a draft, and flags of records: see perdure/records/values.py. */

#ifndef PERDURE_DRAFTS_H
#define PERDURE_DRAFTS_H

enum { ID, BASE, FLAGS, CLASS_NAME, CLASS_VERSION, CODE, REFERENCES, FIELDS, PAYLOAD, PARTS };

#define INTERNAL 0x0004
#define KEPT 0x0008

#endif
