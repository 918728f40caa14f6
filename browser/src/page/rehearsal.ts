/** What a browser is slow at the first time only, done while the user still looks for a picture. */

import { ed25519 } from "@noble/curves/ed25519.js";
import { KEY_BYTES, seal } from "../hpke.ts";

/** Seal nothing to nobody, and check a signature of nobody: compiles the code, and makes the curves' tables. */
export async function rehearse(): Promise<void> {
  const key = new Uint8Array(KEY_BYTES[1]);
  // The base point: zeros are no key of X25519.
  key[KEY_BYTES[1] - KEY_BYTES[2]] = 9;
  await seal(1, key, new Uint8Array(0), new Uint8Array(1));
  const { publicKey, secretKey } = ed25519.keygen();
  ed25519.verify(ed25519.sign(new Uint8Array(1), secretKey), new Uint8Array(1), publicKey, { zip215: false });
}
