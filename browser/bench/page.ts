/** What the benchmark times inside the browser: the parts of the page, without its screen. */

import { fromBase64 } from "../src/bytes.ts";
import { KEY_BYTES } from "../src/hpke.ts";
import { parsePolicy, type Trust } from "../src/policy.ts";
import { sealRequest } from "../src/seal.ts";
import { verify } from "../src/verify.ts";

interface Case {
  document: string;
  root: string;
  trust: Trust;
  policy: unknown;
  nonce: string;
  user_data: string;
  now: number;
}

/** The time of each call, in milliseconds. */
async function timed(count: number, work: () => Promise<unknown>): Promise<number[]> {
  const times = [];
  for (let index = 0; index < count; index += 1) {
    const begun = performance.now();
    await work();
    times.push(performance.now() - begun);
  }
  return times;
}

const bench = {
  verify(one: Case, count: number): Promise<number[]> {
    const document = fromBase64(one.document);
    const demands = {
      root: { der: fromBase64(one.root), trust: one.trust, name: "bench" },
      policy: parsePolicy(one.policy),
      at: one.now,
      nonce: fromBase64(one.nonce),
      userData: fromBase64(one.user_data),
    };
    return timed(count, () => verify(document, demands));
  },

  seal(key: string, size: number, count: number): Promise<number[]> {
    const publicKey = fromBase64(key);
    const random = () => crypto.getRandomValues(new Uint8Array(32));
    const request = {
      picture: new Uint8Array(size),
      mediaType: "image/jpeg" as const,
      replyKey: random(),
      salt: random(),
    };
    const suite = publicKey.length === KEY_BYTES[1] ? 1 : 2;
    return timed(count, () => sealRequest(suite, publicKey, new Uint8Array(24), new Uint8Array(48), request));
  },
};

Object.assign(globalThis, { bench });
