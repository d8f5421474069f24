/*
 * webhook.h
 *		The inbox for Notion's webhooks, as the start of the library sees it; the rest of it are SQL
 *		functions (sql/37_webhook.sql).
 */
#ifndef ANGLES_WEBHOOK_H
#define ANGLES_WEBHOOK_H

#include "postgres.h"

/* Registers the counters of refused requests. While preloading only. */
extern void angles_webhook_install(void);

#endif							/* ANGLES_WEBHOOK_H */
