/** The enclave's half of HPKE, for tests alone: opens what was sealed. */

import { x25519 } from "@noble/curves/ed25519.js";
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js";
import type { Bytes } from "../src/bytes.ts";
import { combineXWing, extractX25519, keySchedule, type Suite } from "../src/hpke.ts";

export interface PrivateKeys {
  mlkemSeed: Bytes;
  x25519OfHybrid: Bytes;
  x25519: Bytes;
}

export async function open(suite: Suite, keys: PrivateKeys, info: Bytes, sealed: Bytes): Promise<Bytes> {
  const size = suite === 1 ? 1088 + 32 : 32;
  const [enc, ciphertext] = [sealed.slice(0, size), sealed.slice(size)];
  const secret = suite === 1 ? decapsulateXWing(keys, enc) : decapsulateX25519(keys.x25519, enc);
  const { key, nonce } = keySchedule(suite, secret, info);
  const aes = await crypto.subtle.importKey("raw", key, "AES-GCM", false, ["decrypt"]);
  return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv: nonce }, aes, ciphertext));
}

function decapsulateXWing(keys: PrivateKeys, enc: Bytes): Bytes {
  const { secretKey } = ml_kem768.keygen(keys.mlkemSeed);
  const lattice = ml_kem768.decapsulate(enc.subarray(0, 1088), secretKey);
  const ephemeral = enc.subarray(1088);
  const curve = x25519.getSharedSecret(keys.x25519OfHybrid, ephemeral);
  return combineXWing(lattice, curve, ephemeral, x25519.getPublicKey(keys.x25519OfHybrid));
}

function decapsulateX25519(key: Bytes, enc: Bytes): Bytes {
  return extractX25519(x25519.getSharedSecret(key, enc), enc, x25519.getPublicKey(key));
}
