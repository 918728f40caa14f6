/** The byte stream to an enclave, in binary WebSocket messages whose borders mean nothing. */

import type { Bytes } from "./bytes.ts";
import { SessionError } from "./errors.ts";

const SUBPROTOCOL = "enclavectl.v1";
const TOKEN_PREFIX = "enclavectl.token.";
/** The gateway takes no larger messages. */
const MESSAGE_BYTES = 64 * 1024;
// What may wait in the browser's own buffer: enough to keep a fast line busy, and little of a picture.
const WAITING_BYTES = 1024 * 1024;
// Milliseconds between two looks at that buffer; a WebSocket has no event for it. Chromium's WebSocketStream has,
// but is in no other browser, and gains nothing on lines slower than 26 MiB a second (docs/page.md).
const LOOK_MS = 10;
// RFC 6455 and docs/gateway.md: try again later, service restart.
const CLOSE_BUSY = 1013;
const CLOSE_RESTART = 1012;

export interface Receiver {
  data(bytes: Uint8Array): void;
  /** Called once, when nothing more will come. */
  ended(error: SessionError): void;
}

/** An open connection to a gateway. */
export class Carriage {
  readonly #socket: WebSocket;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
  }

  /** Connect; `token` is what the gateway demands of its clients, null where it demands nothing.
   *
   * @throws SessionError `unreachable`: a browser does not say more about why.
   */
  static open(address: string, token: string | null, receiver: Receiver): Promise<Carriage> {
    return new Promise((resolve, reject) => {
      const protocols = token === null ? [SUBPROTOCOL] : [SUBPROTOCOL, TOKEN_PREFIX + token];
      let socket: WebSocket;
      try {
        socket = new WebSocket(address, protocols);
      } catch {
        reject(new SessionError("unreachable", "the browser does not open this address"));
        return;
      }
      socket.binaryType = "arraybuffer";
      let isOpen = false;
      socket.onopen = () => {
        isOpen = true;
        resolve(new Carriage(socket));
      };
      socket.onmessage = ({ data }) => {
        if (data instanceof ArrayBuffer) {
          receiver.data(new Uint8Array(data));
        } else {
          socket.close(1003); // the protocol has no text
        }
      };
      socket.onclose = ({ code }) => {
        if (isOpen) {
          receiver.ended(endedBy(code));
        } else {
          reject(new SessionError("unreachable", `no WebSocket to the gateway (${code})`));
        }
      };
    });
  }

  /** Send all of the parts, no faster than the line takes them. `sent` hears how many bytes have gone.
   *
   * @throws SessionError `lost`.
   */
  async send(parts: readonly Bytes[], sent: (bytes: number) => void = () => {}): Promise<void> {
    for (const part of parts) {
      for (let at = 0; at < part.length; at += MESSAGE_BYTES) {
        await this.#room();
        const piece = part.subarray(at, at + MESSAGE_BYTES);
        this.#socket.send(piece);
        sent(piece.length);
      }
    }
  }

  close(): void {
    this.#socket.close(1000);
  }

  async #room(): Promise<void> {
    while (this.#socket.readyState === WebSocket.OPEN && this.#socket.bufferedAmount > WAITING_BYTES) {
      await pause(LOOK_MS);
    }
    if (this.#socket.readyState !== WebSocket.OPEN) {
      throw new SessionError("lost", "the connection ended while a picture was on its way");
    }
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function endedBy(code: number): SessionError {
  if (code === CLOSE_BUSY) {
    return new SessionError("busy", "the gateway has no place");
  }
  if (code === CLOSE_RESTART) {
    return new SessionError("stopping", "the gateway or the enclave is stopping");
  }
  return new SessionError("lost", `the connection ended (${code})`);
}
