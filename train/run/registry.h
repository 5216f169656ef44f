/* The registry of methods as the configuration sees it. *local* */
#pragma once
#include "train/config/config.h"

const config_methods_t *registry_methods(void);
