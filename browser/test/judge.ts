/**
 * A judge for the Python tests: reads cases as lines of JSON, writes the code of each verdict as a line.
 *
 * A case has `document`, `root`, `nonce` and `user_data` in base64, `trust`, `policy` as the page has it, and
 * `now` in milliseconds. The answer is "ok" with the release and the trust, or the code of the refusal.
 */

import { createInterface } from "node:readline";
import { EvidenceRefused } from "../src/errors.ts";
import * as json from "../src/json.ts";
import { parsePolicy, type Trust } from "../src/policy.ts";
import { verify } from "../src/verify.ts";

async function judge(line: string): Promise<string> {
  const fields = json.object(JSON.parse(line), "case");
  // By Node's own decoder: atob would take a third of a case's time.
  const bytes = (name: string) => Uint8Array.from(Buffer.from(json.string(fields[name], name), "base64"));
  const root = { der: bytes("root"), trust: json.string(fields.trust, "trust") as Trust, name: "test" };
  const demands = {
    root,
    policy: parsePolicy(fields.policy),
    at: json.integer(fields.now, "now", 0, Number.MAX_SAFE_INTEGER),
    nonce: bytes("nonce"),
    userData: bytes("user_data"),
  };
  try {
    const verified = await verify(bytes("document"), demands);
    return `ok ${verified.trust} ${verified.release ?? "-"}`;
  } catch (error) {
    if (error instanceof EvidenceRefused) {
      return error.code;
    }
    throw error;
  }
}

// Several at once: WebCrypto checks signatures in threads, and one case after the other would wait for them.
const AT_ONCE = 16;
let batch: Promise<string>[] = [];

async function finish(): Promise<void> {
  process.stdout.write((await Promise.all(batch)).map((verdict) => `${verdict}\n`).join(""));
  batch = [];
}

for await (const line of createInterface({ input: process.stdin })) {
  if (batch.push(judge(line)) === AT_ONCE) {
    await finish();
  }
}
await finish();
