/** Many pictures over few sessions: a lost or busy enclave is asked again as the Python client does it. */

import { pause } from "./carriage.ts";
import { SessionError } from "./errors.ts";
import { type CheckedAnswer, type Expectation, type Picture, type Progress, Session } from "./session.ts";

// As enclavectl's own client: new connections since the last answer, the pauses before them, and in all.
const PAUSES_MS = [250, 2000, 8000];
const WITHIN_MS = 60_000;
const MAY_PASS: readonly string[] = ["busy", "stopping", "lost", "slow"];
// So that a slow line is busy while the enclave looks at a picture. The enclave takes 32 of a connection.
const AT_ONCE = 4;

/** What becomes of pictures, as it becomes known; `index` is theirs in the call. */
export interface Watcher {
  opening(): void;
  passed(step: Progress): void;
  proven(session: Session): void;
  sending(index: number, share: number): void;
  answered(index: number, answer: CheckedAnswer, session: Session): void;
  retrying(error: SessionError, pauseMs: number): void;
}

export class Client {
  readonly #expectation: () => Expectation;
  #session: Session | null = null;

  constructor(expectation: () => Expectation) {
    this.#expectation = expectation;
  }

  /** Have all pictures answered, each by an enclave that was verified.
   *
   * @throws EvidenceRefused or SessionError; what was answered before has been told.
   */
  async ask(pictures: readonly Picture[], watcher: Watcher): Promise<void> {
    const queue = pictures.map((_, index) => index);
    const left = new Reconnections();
    while (queue.length > 0) {
      try {
        const session = await this.#open(watcher);
        await askAll(session, pictures, queue, {
          sending: (index, share) => watcher.sending(index, share),
          answered: (index, answer, by) => {
            left.answered();
            watcher.answered(index, answer, by);
          },
        });
      } catch (error) {
        const pauseMs = error instanceof SessionError ? left.next(error) : null;
        if (pauseMs === null) {
          throw error;
        }
        watcher.retrying(error as SessionError, pauseMs);
        await pause(pauseMs);
      }
    }
  }

  /** Use the session that is there, or open another one and verify anew. */
  async #open(watcher: Watcher): Promise<Session> {
    if (this.#session?.isUsable(Date.now())) {
      return this.#session;
    }
    this.#session?.close();
    this.#session = null;
    watcher.opening();
    const session = await Session.open(this.#expectation(), (step) => watcher.passed(step));
    this.#session = session;
    watcher.proven(session);
    return session;
  }
}

/** Take pictures from the queue until it is empty; what was not answered is back in it. */
async function askAll(
  session: Session,
  pictures: readonly Picture[],
  queue: number[],
  watcher: Pick<Watcher, "sending" | "answered">,
): Promise<void> {
  const work = async () => {
    for (let index = queue.shift(); index !== undefined; index = queue.shift()) {
      const own = index;
      try {
        const answer = await session.ask(pictures[own] as Picture, (share) => watcher.sending(own, share));
        watcher.answered(own, answer, session);
      } catch (error) {
        queue.unshift(own);
        throw error;
      }
    }
  };
  const done = await Promise.allSettled(Array.from({ length: AT_ONCE }, work));
  const failed = done.find((one) => one.status === "rejected");
  if (failed !== undefined && queue.length > 0) {
    throw failed.reason;
  }
}

/** The new connections that are left since the last answer. */
class Reconnections {
  #used = 0;
  #firstAt = 0;

  answered(): void {
    this.#used = 0;
  }

  /** Use one up, and return the pause before it; null if none is left or the error does not pass. */
  next(error: SessionError): number | null {
    // A gateway that has answered before and is not there now is being restarted.
    const mayPass = MAY_PASS.includes(error.code) || (error.code === "unreachable" && this.#used > 0);
    const pauseMs = PAUSES_MS[this.#used];
    const now = Date.now();
    if (this.#used === 0) {
      this.#firstAt = now;
    }
    if (!mayPass || pauseMs === undefined || now + pauseMs > this.#firstAt + WITHIN_MS) {
      return null;
    }
    this.#used += 1;
    // Clients that were refused together come back apart.
    return pauseMs * (0.5 + Math.random() / 2);
  }
}
