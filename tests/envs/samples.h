#pragma once
/* A small world of hotels and its tools, which several tests share. */
extern const char sample_world[], sample_tools[];
/* Build the world into the file that mkstemp() makes of path. */
int sample_world_file(char *path);
