/** What has come from an enclave: one frame of evidence before the session, then the session's own. */

import { SessionError } from "./errors.ts";
import * as wire from "./wire.ts";

export class Inbox {
  readonly #reader = new wire.FrameReader();
  #evidence: wire.Frame | null = null;
  #take: ((frame: wire.Frame) => void) | null = null;
  #changed: () => void = () => {};
  #error: unknown = null;

  constructor() {
    this.#reader.accept(wire.FrameType.Evidence, wire.FrameType.Refusal);
  }

  data(bytes: Uint8Array): void {
    if (this.#error !== null) {
      return;
    }
    try {
      for (const frame of this.#reader.feed(bytes)) {
        this.#receive(frame);
      }
    } catch (error) {
      this.ended(error);
    }
  }

  /** The first error is the one to tell: a refusal, and not the close that follows it. */
  ended(error: unknown): void {
    if (this.#error === null) {
      this.#error = error;
      this.#changed();
    }
  }

  /** Wait for the evidence.
   *
   * @throws SessionError if a refusal or the end came, also after the evidence.
   */
  evidence(): Promise<wire.Frame> {
    return new Promise((resolve, reject) => {
      this.#changed = () => {
        if (this.#error !== null) {
          reject(this.#error);
        } else if (this.#evidence !== null) {
          resolve(this.#evidence);
        }
      };
      this.#changed();
    });
  }

  /** Give the session what comes from now on.
   *
   * @throws SessionError if a refusal or the end came while the evidence was verified.
   */
  handOver(take: (frame: wire.Frame) => void, fail: (error: unknown) => void): void {
    if (this.#error !== null) {
      throw this.#error;
    }
    this.#reader.accept(wire.FrameType.Answer, wire.FrameType.Refusal);
    this.#take = take;
    this.#changed = () => fail(this.#error);
  }

  #receive(frame: wire.Frame): void {
    if (this.#take !== null) {
      this.#take(frame);
      return;
    }
    // Before the session nothing was asked, so a refusal is of the conversation, whenever it comes.
    if (frame.type === wire.FrameType.Refusal) {
      throw refusalError(wire.parseRefusal(frame.body).code);
    }
    if (this.#evidence !== null) {
      throw wire.protocolError("a frame before anything was asked");
    }
    this.#evidence = frame;
    this.#changed();
  }
}

export function refusalError(code: number): SessionError {
  const codes = [
    "version",
    "busy",
    "refused",
    "refused",
    "stopping",
    "protocol",
    "no-evidence",
    "slow",
  ] as const;
  return new SessionError(codes[code - 1] ?? "protocol", `the enclave or the gateway refused (${code})`);
}
