/*
 * The handshake of inproc:// URLs, for the daemon (runtime/transport_nng_inproc.c) and the client
 * library. NNG has no byte streams inside one process, so a connection is a pair of pair0 sockets
 * and each message on them is a run of stream bytes; frames lie on them as on any other stream.
 *
 * 1. The daemon has a pull0 socket listening at inproc://NAME.
 * 2. The client opens a pair0 socket with TR_INPROC_QUEUE messages of receive buffer and its pipe
 *    notifications set, and listens with it at an address that nobody else in the process has:
 *    inproc://NAME/UNIQUE.
 * 3. The client opens a push0 socket, dials inproc://NAME with it (NNG_ECONNREFUSED: no daemon) and
 *    sends one message: its own URL, without a NUL, at most TR_INPROC_URL_max bytes.
 * 4. The daemon dials that URL with a fresh pair0 socket. NNG_PIPE_EV_ADD_POST on the client's pair
 *    means connected; then the push0 socket is closed, not before, or the message may be lost. No
 *    pipe within TR_INPROC_CONNECT_MS: both sides give up.
 * 5. Each message holds one or more bytes of the stream; a frame may begin and end anywhere in it.
 *    A reader takes any size. Sends wait while the other side's queue is full, which is the
 *    backpressure beside the streams' credit.
 * 6. Closing the pair0 socket closes the stream. The other side gets NNG_PIPE_EV_REM_POST, reads
 *    what its queue still holds, and ends. A second pipe on a pair is refused by NNG.
 */
#ifndef TR_PROTOCOL_INPROC_H
#define TR_PROTOCOL_INPROC_H

#define TR_INPROC_QUEUE 64
#define TR_INPROC_URL_max 127 /* NNG_MAXADDRLEN - 1 */
#define TR_INPROC_CONNECT_MS 5000

#endif
