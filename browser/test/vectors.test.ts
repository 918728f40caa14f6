/** The protocol vectors of tests/vectors/protocol-v1.json, read as docs/protocol.md says. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { sha256 } from "@noble/hashes/sha2.js";
import { isUnsure, parseAnswerContent, parseOutcome, scoresOf } from "../src/answer.ts";
import { type Bytes, concat, equal, fromHex, hex, owned } from "../src/bytes.ts";
import type { ModelCard } from "../src/card.ts";
import { encode, type Value } from "../src/cbor.ts";
import { EvidenceRefused, SessionError } from "../src/errors.ts";
import { evidenceFiles, type KeptReceipt } from "../src/evidence.ts";
import { prepareSealing, type Suite, seal } from "../src/hpke.ts";
import { parseKeyConfig } from "../src/keyconfig.ts";
import { checkReceiptSignature, parseReceipt } from "../src/receipt.ts";
import { answerStatement, checkCommitments, requestStatement } from "../src/receiptcheck.ts";
import {
  type MediaType,
  openAnswer,
  padme,
  requestInfo,
  requestPlaintext,
  sealRequest,
} from "../src/seal.ts";
import * as wire from "../src/wire.ts";
import { open } from "./open.ts";

type Fields = Record<string, string>;
// The bundle is in browser/dist/test.
const PATH = new URL("../../../tests/vectors/protocol-v1.json", import.meta.url);
const VECTORS = JSON.parse(readFileSync(PATH, "utf8"));
const SESSION: Fields = VECTORS.session;
const PRIVATE = {
  mlkemSeed: bytes(VECTORS.private_keys, "mlkem768_seed"),
  x25519OfHybrid: bytes(VECTORS.private_keys, "x25519_of_hybrid"),
  x25519: bytes(VECTORS.private_keys, "x25519"),
};

function bytes(fields: Fields, name: string): Bytes {
  return fromHex(fields[name] as string);
}

function bodyOf(frame: Bytes, ...types: wire.FrameType[]): Bytes {
  const reader = new wire.FrameReader();
  reader.accept(...types);
  // In halves: a stream has no borders.
  const frames = [...reader.feed(frame.subarray(0, 3)), ...reader.feed(frame.subarray(3))];
  assert.equal(frames.length, 1);
  return (frames[0] as wire.Frame).body;
}

test("the session opens as recorded", () => {
  const challenge = wire.challengeBody(bytes(SESSION, "nonce"));
  const frame = concat(wire.frameHeader(wire.FrameType.Challenge, challenge.length), challenge);
  assert.equal(hex(frame), SESSION.challenge_frame);
  const evidence = wire.parseEvidence(bodyOf(bytes(SESSION, "evidence_frame"), wire.FrameType.Evidence));
  assert.equal(hex(evidence.document), SESSION.document);
  assert.equal(hex(evidence.keyConfig), VECTORS.key_configuration.cbor);
  const transcript = wire.transcriptHash(challenge, evidence.body);
  assert.equal(hex(transcript), SESSION.transcript);
  assert.equal(hex(wire.sessionId(transcript)), SESSION.session_id);
});

test("the key configuration reads as recorded", () => {
  const recorded = VECTORS.key_configuration;
  const config = parseKeyConfig(bytes(recorded, "cbor"));
  for (const [suite, key] of config.keys) {
    assert.equal(hex(key), recorded.public_keys[suite]);
  }
  const card = JSON.parse(new TextDecoder().decode(bytes(recorded, "card_json")));
  assert.equal(config.card.id, card.id);
  assert.deepEqual(
    config.card.labels.map(({ code, name }) => [code, name]),
    card.labels,
  );
  assert.equal(hex(wire.keyConfigDigest(bytes(recorded, "cbor"))), recorded.user_data);
  assert.throws(() => parseKeyConfig(bytes(recorded, "cbor").slice(0, -1)), EvidenceRefused);
});

for (const recorded of VECTORS.requests) {
  const suite = recorded.suite as Suite;
  const transcript = bytes(SESSION, "transcript");
  const id = wire.requestId(bytes(SESSION, "session_id"), recorded.counter);
  const request = {
    picture: bytes(recorded, "picture"),
    mediaType: recorded.media_type as MediaType,
    replyKey: bytes(recorded, "reply_key"),
    salt: bytes(recorded, "salt"),
  };

  test(`what Python sealed opens, and what is sealed here opens: ${recorded.suite_name}`, async () => {
    const info = requestInfo(suite, id, transcript);
    assert.equal(hex(info), recorded.info);
    const opened = await open(suite, PRIVATE, info, bytes(recorded, "ciphertext"));
    const content = bytes(recorded, "content");
    assert.equal(hex(opened.slice(4, 4 + content.length)), hex(content));
    const key = fromHex(VECTORS.key_configuration.public_keys[suite]);
    const sealed = await sealRequest(suite, key, id, transcript, request);
    const again = await open(suite, PRIVATE, info, concat(sealed.enc, sealed.ciphertext));
    assert.deepEqual(again, requestPlaintext(request));
    if (recorded.delivery === "here") {
      assert.deepEqual(again, opened);
    }
  });
}

test("an ephemeral key serves one message, prepared or not", async () => {
  const key = fromHex(VECTORS.key_configuration.public_keys[2]);
  const sealed = [];
  for (let message = 0; message < 4; message += 1) {
    if (message < 2) {
      prepareSealing();
      prepareSealing();
    }
    sealed.push(hex((await seal(2, key, new Uint8Array(0), new Uint8Array(1))).enc));
  }
  assert.equal(new Set(sealed).size, 4);
});

for (const recorded of VECTORS.answers) {
  test(`an answer opens: ${recorded.name}`, async () => {
    const answer = wire.parseAnswer(bodyOf(bytes(recorded, "frame"), wire.FrameType.Answer));
    const key = bytes(recorded, "reply_key");
    const content = await openAnswer(key, answer.requestId, answer.kind, answer.ciphertext);
    assert.equal(hex(content), recorded.cbor);
    if (answer.kind === 0) {
      const parts = parseAnswerContent(content);
      assert.equal(parts.receipt === null, parseOutcome(parts.outcome).problem !== null);
    }
    const changed = answer.ciphertext.slice();
    changed[7] = (changed[7] as number) ^ 1;
    await assert.rejects(openAnswer(key, answer.requestId, answer.kind, changed), SessionError);
  });
}

test("the receipt reads, is signed, and commits to its statements", () => {
  const recorded: Fields = VECTORS.receipt;
  const asked = VECTORS.requests[0];
  const receipt = parseReceipt(bytes(recorded, "receipt"));
  checkReceiptSignature(receipt, bytes(recorded, "public_key"));
  const salt = bytes(asked, "salt");
  const picture = owned(sha256(bytes(asked, "picture")));
  const request = requestStatement(salt, picture, asked.media_type);
  assert.equal(hex(request), recorded.request_statement);
  const { outcome } = parseAnswerContent(bytes(VECTORS.answers[0], "cbor"));
  const answer = answerStatement(salt, outcome);
  assert.equal(hex(answer), recorded.answer_statement);
  checkCommitments(receipt, request, answer, parseOutcome(outcome));
  assert.throws(() => checkCommitments(receipt, answer, request, parseOutcome(outcome)), EvidenceRefused);
  const other = bytes(recorded, "public_key").map((byte) => byte ^ 1);
  assert.throws(() => checkReceiptSignature(receipt, owned(other)), EvidenceRefused);
  assert.throws(() => checkReceiptSignature(receipt, new Uint8Array(32)), /Ed25519/);
});

test("every byte of a receipt counts", () => {
  const good = bytes(VECTORS.receipt, "receipt");
  const key = bytes(VECTORS.receipt, "public_key");
  for (let at = 0; at < good.length; at += 1) {
    const changed = good.slice();
    changed[at] = (changed[at] as number) ^ 1;
    assert.throws(() => checkReceiptSignature(parseReceipt(changed), key), EvidenceRefused, `byte ${at}`);
  }
});

test("refusals read", () => {
  for (const recorded of VECTORS.refusals) {
    const refusal = wire.parseRefusal(bodyOf(bytes(recorded, "frame"), wire.FrameType.Refusal));
    assert.equal(refusal.code, recorded.code);
    assert.equal(hex(refusal.requestId), recorded.request_id);
  }
});

test("padding is as recorded", () => {
  for (const [length, padded] of VECTORS.padded_lengths) {
    assert.equal(padme(length), padded, String(length));
  }
});

test("what must be refused is refused", () => {
  const parsers: Record<string, (body: Bytes) => unknown> = {
    evidence: wire.parseEvidence,
    answer: wire.parseAnswer,
    refusal: wire.parseRefusal,
  };
  for (const { message, body, why } of VECTORS.refused) {
    const parse = parsers[message];
    if (parse !== undefined) {
      assert.throws(() => parse(fromHex(body)), SessionError, `${message}: ${why}`);
    }
  }
});

test("a frame is refused by its header", () => {
  const reader = new wire.FrameReader();
  reader.accept(wire.FrameType.Refusal);
  for (const header of ["0000000002", "00000000", "ffffffff05", "0000101201"]) {
    assert.throws(() => [...reader.feed(fromHex(`${header}00`))], SessionError, header);
  }
  assert.ok(equal(fromHex("00"), new Uint8Array(1)));
});

test("an answer of the most probable labels is named by the card", () => {
  const card: ModelCard = {
    id: "many",
    sha256: "00".repeat(32),
    labels: Array.from({ length: 100 }, (_, index) => ({ code: `c${index}`, name: `Label ${index}` })),
    notice: "None.",
    unsureBelow: 600_000_000,
    top: 2,
  };
  const outcome = (top: [number, number][]) =>
    parseOutcome(
      encode(
        new Map<string, Value>([
          ["model", ["many", card.sha256]],
          ["timings", [1, 2, 3]],
          ["probabilities", null],
          ["top", top],
          ["rest", 100],
          ["problem", null],
          ["remarks", []],
        ]),
      ),
    );
  const scores = scoresOf(
    outcome([
      [7, 500_000_000],
      [3, 400_000_000],
    ]),
    card,
  );
  assert.deepEqual(
    scores.map(({ label }) => label.code),
    ["c7", "c3"],
  );
  assert.ok(isUnsure(scores, card));
  assert.ok(!isUnsure(scores, { ...card, unsureBelow: 500_000_000 }));
  assert.throws(
    () =>
      outcome([
        [3, 400_000_000],
        [7, 500_000_000],
      ]),
    SessionError,
    "rising",
  );
  assert.throws(
    () =>
      outcome([
        [7, 5],
        [7, 5],
      ]),
    SessionError,
    "twice",
  );
  assert.throws(() => scoresOf(outcome([[7, 5]]), card), SessionError, "too few");
  assert.throws(
    () =>
      scoresOf(
        outcome([
          [200, 5],
          [7, 4],
        ]),
        card,
      ),
    SessionError,
    "no such label",
  );
});

test("a session with more receipts than a file takes is saved in several files", () => {
  const kept = (count: number) => {
    const receipts = Array.from({ length: count }, (_, index) => {
      const [receipt, requestStatement, answerStatement] = [1, 2, 3].map((part) =>
        Uint8Array.of(part, index),
      );
      return { receipt, requestStatement, answerStatement } as KeptReceipt;
    });
    const session = {
      ...{
        document: Uint8Array.of(1),
        keyConfig: Uint8Array.of(2),
        nonce: new Uint8Array(32),
        requestedAt: 0,
      },
      ...{ rootName: "r", rootSha256: "00".repeat(32), policy: "p", tool: "t", receipts },
    };
    return evidenceFiles(session, false).map((text) => JSON.parse(text));
  };
  assert.deepEqual(
    [0, 1, 64, 65, 130].map((count) => kept(count).map((one) => one.receipts.length)),
    [[0], [1], [64], [64, 1], [64, 64, 2]],
  );
  const files = kept(130);
  assert.equal(new Set(files.flatMap((one) => one.receipts.map((kept: Fields) => kept.receipt))).size, 130);
  assert.ok(files.every((one) => one.document === files[0].document && one.nonce === files[0].nonce));
});
