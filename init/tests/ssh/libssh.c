/* A client on libssh: WAY SECRET PORT KNOWN_HOSTS and then one of
 *   exec COMMAND        input and both outputs passed on, the command's status as its own
 *   put FROM TO | get FROM TO | list FOLDER | rename FROM TO
 * WAY is key, password or keyboard-interactive; SECRET a file, or the password. Status 255: it failed. */
#include <errno.h>
#include <fcntl.h>
#include <libssh/libssh.h>
#include <libssh/sftp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ssh_session session;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, ssh_get_error(session));
    exit(255);
}

static void log_in(const char *way, const char *secret) {
    if (!strcmp(way, "key")) {
        ssh_key key;
        if (ssh_pki_import_privkey_file(secret, NULL, NULL, NULL, &key)) fail("reading the key");
        if (ssh_userauth_publickey(session, NULL, key) != SSH_AUTH_SUCCESS) fail("publickey");
        ssh_key_free(key);
    } else if (!strcmp(way, "password")) {
        if (ssh_userauth_password(session, NULL, secret) != SSH_AUTH_SUCCESS) fail("password");
    } else {
        int state = ssh_userauth_kbdint(session, NULL, NULL);
        while (state == SSH_AUTH_INFO) {
            for (int n = 0; n < ssh_userauth_kbdint_getnprompts(session); n++)
                if (ssh_userauth_kbdint_setanswer(session, n, secret) < 0) fail("answering");
            state = ssh_userauth_kbdint(session, NULL, NULL);
        }
        if (state != SSH_AUTH_SUCCESS) fail("keyboard-interactive");
    }
}

static int execute(const char *command) {
    static char buffer[1 << 16];
    ssh_channel channel = ssh_channel_new(session);
    if (!channel || ssh_channel_open_session(channel)) fail("opening a session");
    if (ssh_channel_request_env(channel, "LANG", "C.UTF-8")) fail("setting LANG");
    if (ssh_channel_request_exec(channel, command)) fail("exec");
    ssize_t count;
    while ((count = read(0, buffer, sizeof buffer)) > 0)
        if (ssh_channel_write(channel, buffer, count) != count) fail("writing");
    if (ssh_channel_send_eof(channel)) fail("ending the input");
    for (int which = 0; which < 2; which++)
        while ((count = ssh_channel_read(channel, buffer, sizeof buffer, which)) > 0)
            if (write(1 + which, buffer, count) != count) exit(255);
    int status = ssh_channel_get_exit_status(channel);
    ssh_channel_close(channel);
    ssh_channel_free(channel);
    return status;
}

static void copy(sftp_session sftp, const char *from, const char *to, int put) {
    static char buffer[100000];
    int there = open(put ? from : to, put ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (there < 0) exit(255);
    sftp_file file = sftp_open(sftp, put ? to : from, put ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY, 0640);
    if (!file) fail("opening the file");
    ssize_t count;
    while ((count = put ? read(there, buffer, sizeof buffer) : sftp_read(file, buffer, sizeof buffer)) > 0) {
        for (ssize_t at = 0, wrote; at < count; at += wrote) {
            wrote = put ? sftp_write(file, buffer + at, count - at) : write(there, buffer + at, count - at);
            if (wrote <= 0) fail("copying");
        }
    }
    if (count < 0) fail("copying");
    if (put && sftp_fsync(file)) fail("fsync");
    if (sftp_close(file)) fail("closing");
    close(there);
}

int main(int count, char **words) {
    if (count < 7) return 255;
    session = ssh_new();
    unsigned port = atoi(words[3]);
    int yes = 0;
    ssh_options_set(session, SSH_OPTIONS_HOST, "127.0.0.1");
    ssh_options_set(session, SSH_OPTIONS_USER, "root");
    ssh_options_set(session, SSH_OPTIONS_PORT, &port);
    ssh_options_set(session, SSH_OPTIONS_KNOWNHOSTS, words[4]);
    ssh_options_set(session, SSH_OPTIONS_PROCESS_CONFIG, &yes);
    if (ssh_connect(session)) fail("connecting");
    if (ssh_session_is_known_server(session) != SSH_KNOWN_HOSTS_OK) fail("the host key");
    log_in(words[1], words[2]);
    int status = 0;
    if (!strcmp(words[5], "exec")) {
        status = execute(words[6]);
    } else {
        sftp_session sftp = sftp_new(session);
        if (!sftp || sftp_init(sftp)) fail("sftp");
        if (!strcmp(words[5], "list")) {
            sftp_dir folder = sftp_opendir(sftp, words[6]);
            if (!folder) fail("opening the folder");
            for (sftp_attributes it; (it = sftp_readdir(sftp, folder)); sftp_attributes_free(it))
                printf("%s %o %llu\n", it->name, it->permissions, (unsigned long long)it->size);
            if (!sftp_dir_eof(folder)) fail("reading the folder");
            sftp_closedir(folder);
        } else if (count < 8) {
            return 255;
        } else if (!strcmp(words[5], "rename")) {
            if (sftp_rename(sftp, words[6], words[7])) fail("renaming");
        } else {
            copy(sftp, words[6], words[7], !strcmp(words[5], "put"));
        }
        sftp_free(sftp);
    }
    ssh_disconnect(session);
    ssh_free(session);
    return status;
}
