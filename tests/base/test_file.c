#include "base/file.h"
#include "base/sha256.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

TEST(reads_back_what_it_wrote)
{
    const char *path = test_path("file");
    struct agon_str content = {"a\0b\xFF\n", 5};
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    EXPECT(agon_file_write(path, agon_str("older and longer"), false, NULL) == 0);
    EXPECT(agon_file_write(path, content, true, NULL) == 0);
    EXPECT(agon_file_read(&b, path, 5, NULL) == 0);
    EXPECT(agon_str_equal(agon_buf_str(&b), content));
}

TEST(reading_stops_at_the_limit)
{
    const char *path = test_path("big");
    static char big[200000];
    memset(big, 'x', sizeof(big));
    REQUIRE(agon_file_write(path, (struct agon_str){big, sizeof(big)}, false, NULL) == 0);
    struct agon_err err = {0};
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    EXPECT(agon_file_read(&b, path, sizeof(big), NULL) == 0 && b.size == sizeof(big));
    EXPECT(agon_file_read(&b, path, sizeof(big) - 1, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "big: over 199999 bytes");
    EXPECT(b.size == sizeof(big)); /* and nothing half read was left */
}

TEST(what_is_no_file_is_named_in_the_error)
{
    struct agon_err err = {0};
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    EXPECT(agon_file_read(&b, test_path("none"), 10, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "/none: No such file or directory");
    EXPECT(agon_file_read(&b, test_folder(), 10, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "not a regular file");
    REQUIRE(mkfifo(test_path("fifo"), 0600) == 0);
    EXPECT(agon_file_read(&b, test_path("fifo"), 10, &err) == AGON_EINPUT); /* and returns */
    EXPECT(agon_file_write(test_path("none/file"), agon_str("x"), false, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "none/file: No such file");
}

TEST(read_at_stays_beneath_its_folder)
{
    REQUIRE(agon_dir_make(test_path("jail/sub"), NULL) == 0);
    REQUIRE(agon_file_write(test_path("outside"), agon_str("secret"), false, NULL) == 0);
    REQUIRE(agon_file_write(test_path("jail/sub/in"), agon_str("fine"), false, NULL) == 0);
    REQUIRE(symlink("../outside", test_path("jail/link")) == 0);
    REQUIRE(symlink("sub", test_path("jail/folder")) == 0);
    int dir AGON_AUTO(agon_fd_closep) = open(test_path("jail"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    EXPECT(agon_file_read_at(&b, dir, "sub/in", 10, NULL) == 0);
    EXPECT_TEXT(agon_buf_text(&b), "fine");
    static const char *const refused[] = {"link", "../outside", "/etc/passwd", "folder/in",
                                          "sub/../../outside"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        EXPECT(agon_file_read_at(&b, dir, refused[i], 10, NULL) == AGON_ESYS);
    EXPECT(agon_file_read_at(&b, dir, "sub", 10, NULL) == AGON_EINPUT);
    EXPECT_TEXT(agon_buf_text(&b), "fine");
}

struct names {
    char text[200];
    int stop_after;
};

static int add_name(const char *name, void *user, struct agon_err *err)
{
    struct names *names = user;
    strncat(names->text, name, 20);
    strncat(names->text, " ", 2);
    return --names->stop_after == 0 ? agon_fail(err, AGON_EINPUT, "enough") : 0;
}

TEST(lists_names_bytewise_without_leftovers)
{
    REQUIRE(agon_dir_make(test_path("list/b"), NULL) == 0);
    static const char *const files[] = {
        "list/a",  "list/Z", "list/\xC3\xA9", "list/.hidden", "list/.agon-tmp-1-0",
        "list/10", "list/9"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        REQUIRE(agon_file_write(test_path(files[i]), agon_str(""), false, NULL) == 0);
    struct names names = {0};
    EXPECT(agon_dir_each(test_path("list"), add_name, &names, NULL) == 0);
    EXPECT_TEXT(names.text, ".hidden 10 9 Z a b \xC3\xA9 ");
    struct names some = {.stop_after = 2};
    EXPECT(agon_dir_each(test_path("list"), add_name, &some, NULL) == AGON_EINPUT);
    EXPECT_TEXT(some.text, ".hidden 10 ");
}

TEST(a_write_leaves_nothing_behind_when_it_fails)
{
    REQUIRE(agon_dir_make(test_path("place/target"), NULL) == 0);
    struct agon_err err = {0};
    EXPECT(agon_file_write(test_path("place/target"), agon_str("x"), true, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "target: Is a directory");
    EXPECT(rmdir(test_path("place/target")) == 0 && rmdir(test_path("place")) == 0);
}

TEST(a_write_steps_past_the_leftovers_of_a_killed_process)
{
    REQUIRE(agon_dir_make(test_path("left"), NULL) == 0);
    for (int i = 0; i < 50; i++) {
        char name[100];
        snprintf(name, sizeof(name), "left/.agon-tmp-%d-%d", (int)getpid(), i);
        int fd AGON_AUTO(agon_fd_closep) = open(test_path(name), O_CREAT | O_WRONLY, 0600);
        REQUIRE(fd >= 0);
    }
    EXPECT(agon_file_write(test_path("left/file"), agon_str("x"), false, NULL) == 0);
    EXPECT(agon_dir_sweep(test_path("left"), NULL) == 0);
    EXPECT(unlink(test_path("left/file")) == 0 && rmdir(test_path("left")) == 0);
}

/* A file size limit stands for the full disk: the write breaks off halfway in the same way. */
TEST(a_write_that_breaks_off_leaves_the_old_file)
{
    const char *path = test_path("half/kept");
    REQUIRE(agon_dir_make(test_path("half"), NULL) == 0);
    REQUIRE(agon_file_write(path, agon_str("old"), true, NULL) == 0);
    static char big[200000];
    struct rlimit old, small;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
    small = (struct rlimit){.rlim_cur = 70000, .rlim_max = old.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    struct agon_err err = {0};
    int r = agon_file_write(path, (struct agon_str){big, sizeof(big)}, true, &err);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
    signal(SIGXFSZ, handler);
    EXPECT(r == AGON_ESYS);
    EXPECT_HAS(err.text, "half/kept: File too large");
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    EXPECT(agon_file_read(&b, path, 10, NULL) == 0);
    EXPECT_TEXT(agon_buf_text(&b), "old");
    EXPECT(unlink(path) == 0 && rmdir(test_path("half")) == 0); /* nothing else lies there */
}

TEST(make_and_remove_whole_folders)
{
    const char *deep = test_path("x/y//z/");
    EXPECT(agon_dir_make(deep, NULL) == 0);
    EXPECT(agon_dir_make(deep, NULL) == 0);
    EXPECT(access(test_path("x/y/z"), F_OK) == 0);
    REQUIRE(agon_file_write(test_path("x/file"), agon_str("x"), false, NULL) == 0);
    struct agon_err err = {0};
    EXPECT(agon_dir_make(test_path("x/file/y"), &err) == AGON_ESYS);
    EXPECT(agon_dir_make(test_path("x/file"), &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "x/file: Not a directory");

    REQUIRE(agon_dir_make(test_path("precious"), NULL) == 0);
    REQUIRE(agon_file_write(test_path("precious/file"), agon_str("x"), false, NULL) == 0);
    REQUIRE(symlink(test_path("precious"), test_path("x/y/link")) == 0);
    EXPECT(agon_dir_remove(test_path("x/y/link"), NULL) == AGON_ESYS); /* follows no link */
    EXPECT(agon_dir_remove(test_path("x"), NULL) == 0);
    EXPECT(access(test_path("x"), F_OK) == -1 && errno == ENOENT);
    EXPECT(access(test_path("precious/file"), F_OK) == 0);
    EXPECT(agon_dir_remove(test_path("x"), NULL) == 0); /* missing is fine */
}

/* FIPS 180-4 examples, and lengths around the padding's edges against sha256sum's results. */
TEST(sha256_matches_the_standard)
{
    static const struct {
        const char *text, *hex;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    char hex[AGON_SHA256_HEX];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        agon_sha256_of(agon_str(cases[i].text), hex);
        EXPECT_TEXT(hex, cases[i].hex);
    }
    struct agon_sha256 h;
    agon_sha256_init(&h);
    for (int i = 0; i < 1000000; i++)
        agon_sha256_add(&h, "a", 1);
    agon_sha256_hex(&h, hex);
    EXPECT_TEXT(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(sha256_does_not_depend_on_how_the_bytes_come)
{
    static char text[300];
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)i;
    for (size_t size = 50; size <= 200; size++) {
        char whole[AGON_SHA256_HEX], parts[AGON_SHA256_HEX];
        agon_sha256_of((struct agon_str){text, size}, whole);
        struct agon_sha256 h;
        agon_sha256_init(&h);
        for (size_t at = 0, step = 1; at < size; at += step, step = step % 70 + 1)
            agon_sha256_add(&h, text + at, step < size - at ? step : size - at);
        agon_sha256_hex(&h, parts);
        REQUIRE(strcmp(whole, parts) == 0);
    }
}

TEST(sha256_of_a_file_is_that_of_its_bytes)
{
    static char big[300001];
    memset(big, 'q', sizeof(big));
    struct agon_str s = {big, sizeof(big)};
    REQUIRE(agon_file_write(test_path("hashed"), s, false, NULL) == 0);
    char of_bytes[AGON_SHA256_HEX], of_file[AGON_SHA256_HEX];
    agon_sha256_of(s, of_bytes);
    EXPECT(agon_sha256_file(test_path("hashed"), of_file, NULL) == 0);
    EXPECT_TEXT(of_file, of_bytes);
    struct agon_err err = {0};
    EXPECT(agon_sha256_file(test_path("none"), of_file, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "none: No such file");
    EXPECT(agon_sha256_file(test_folder(), of_file, &err) == AGON_ESYS);
}

TEST(what_lies_beside_the_program_is_named_and_a_path_that_does_not_fit_is_refused)
{
    struct agon_err err;
    char path[4096], small[8];
    REQUIRE(agon_program_beside(path, sizeof(path), "test_file", &err) == 0);
    EXPECT(path[0] == '/' && access(path, X_OK) == 0);
    EXPECT(agon_program_beside(small, sizeof(small), "test_file", &err) == AGON_EINPUT);
}
