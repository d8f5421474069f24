/*
 * errors.h
 *		SQLSTATEs of angles: class NG (the standard leaves I-Z to implementations).
 *
 * README.md's troubleshooting table has one row for each; test/lint checks that the two agree.
 */
#ifndef ANGLES_ERRORS_H
#define ANGLES_ERRORS_H

#include "postgres.h"

#include "utils/elog.h"

#define ERRCODE_ANGLES_NOT_PRELOADED	MAKE_SQLSTATE('N', 'G', '0', '0', '1')
#define ERRCODE_ANGLES_NO_WORKER		MAKE_SQLSTATE('N', 'G', '0', '0', '2')
#define ERRCODE_ANGLES_VERSION_SKEW		MAKE_SQLSTATE('N', 'G', '0', '0', '3')
#define ERRCODE_ANGLES_FENCED			MAKE_SQLSTATE('N', 'G', '0', '0', '4')
#define ERRCODE_ANGLES_RUN_FAILED		MAKE_SQLSTATE('N', 'G', '0', '0', '5')
#define ERRCODE_ANGLES_IN_TRANSACTION	MAKE_SQLSTATE('N', 'G', '0', '0', '6')
#define ERRCODE_ANGLES_BAD_SETTING		MAKE_SQLSTATE('N', 'G', '0', '0', '7')
#define ERRCODE_ANGLES_NOT_LINKED		MAKE_SQLSTATE('N', 'G', '1', '0', '1')
#define ERRCODE_ANGLES_ALREADY_LINKED	MAKE_SQLSTATE('N', 'G', '1', '0', '2')
#define ERRCODE_ANGLES_CANNOT_LINK		MAKE_SQLSTATE('N', 'G', '1', '0', '3')
#define ERRCODE_ANGLES_BAD_MAPPING		MAKE_SQLSTATE('N', 'G', '1', '0', '4')
#define ERRCODE_ANGLES_VALUE			MAKE_SQLSTATE('N', 'G', '1', '0', '5')
#define ERRCODE_ANGLES_NO_CONFLICT		MAKE_SQLSTATE('N', 'G', '1', '0', '6')
#define ERRCODE_ANGLES_NOT_HELD			MAKE_SQLSTATE('N', 'G', '1', '0', '7')
#define ERRCODE_ANGLES_OUT_OF_SCOPE		MAKE_SQLSTATE('N', 'G', '1', '0', '8')
#define ERRCODE_ANGLES_NOT_KEPT			MAKE_SQLSTATE('N', 'G', '1', '0', '9')
#define ERRCODE_ANGLES_NOTION			MAKE_SQLSTATE('N', 'G', '2', '0', '1')
#define ERRCODE_ANGLES_NO_TOKEN			MAKE_SQLSTATE('N', 'G', '2', '0', '2')
#define ERRCODE_ANGLES_NO_PARENT		MAKE_SQLSTATE('N', 'G', '2', '0', '3')
#define ERRCODE_ANGLES_BAD_RESPONSE		MAKE_SQLSTATE('N', 'G', '2', '0', '4')
#define ERRCODE_ANGLES_GIT				MAKE_SQLSTATE('N', 'G', '3', '0', '1')
#define ERRCODE_ANGLES_GIT_OBJECT		MAKE_SQLSTATE('N', 'G', '3', '0', '2')
#define ERRCODE_ANGLES_BACKUP_BUSY		MAKE_SQLSTATE('N', 'G', '4', '0', '1')
#define ERRCODE_ANGLES_BACKUP_ROLE		MAKE_SQLSTATE('N', 'G', '4', '0', '2')
#define ERRCODE_ANGLES_CANNOT_BACK_UP	MAKE_SQLSTATE('N', 'G', '4', '0', '3')
#define ERRCODE_ANGLES_BACKUP_KEY		MAKE_SQLSTATE('N', 'G', '4', '0', '4')
#define ERRCODE_ANGLES_BACKUP_DAMAGED	MAKE_SQLSTATE('N', 'G', '4', '0', '5')

#endif							/* ANGLES_ERRORS_H */
