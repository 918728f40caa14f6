/** Frames have no borders in messages: each frame of a message counts, and each message of a frame. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Bytes, concat, uint } from "../src/bytes.ts";
import { SessionError } from "../src/errors.ts";
import { Inbox } from "../src/inbox.ts";
import * as wire from "../src/wire.ts";

const STOPPING = 5;
const EVIDENCE = framed(wire.FrameType.Evidence, new Uint8Array(50));
const REFUSAL = framed(wire.FrameType.Refusal, concat(uint(STOPPING, 2), new Uint8Array(24)));
const ANSWER = framed(wire.FrameType.Answer, new Uint8Array(4137));
const GARBAGE = Uint8Array.of(0, 0, 0, 0, 0xff);
const LOST = new SessionError("lost", "closed");
const NOBODY = () => assert.fail();
const STOPPED = { code: "stopping" };

function framed(type: wire.FrameType, body: Bytes): Bytes {
  return concat(wire.frameHeader(type, body.length), body);
}

interface Session {
  inbox: Inbox;
  types: wire.FrameType[];
  errors: unknown[];
}

async function session(): Promise<Session> {
  const made: Session = { inbox: new Inbox(), types: [], errors: [] };
  made.inbox.data(EVIDENCE);
  await made.inbox.evidence();
  made.inbox.handOver(
    (frame) => made.types.push(frame.type),
    (error) => made.errors.push(error),
  );
  return made;
}

test("evidence that comes byte by byte is whole", async () => {
  const inbox = new Inbox();
  const coming = inbox.evidence();
  for (const byte of EVIDENCE) {
    inbox.data(Uint8Array.of(byte));
  }
  assert.equal((await coming).body.length, 50);
});

test("a refusal in the message of the evidence is told as that, whoever looks when", async () => {
  const early = new Inbox();
  early.data(concat(EVIDENCE, REFUSAL));
  await assert.rejects(early.evidence(), STOPPED);

  const waiting = new Inbox();
  const coming = waiting.evidence();
  waiting.data(concat(EVIDENCE, REFUSAL));
  await coming;
  assert.throws(() => waiting.handOver(NOBODY, NOBODY), STOPPED);
});

test("a refusal while the evidence is verified is told before a picture is sent", async () => {
  const inbox = new Inbox();
  const coming = inbox.evidence();
  inbox.data(EVIDENCE);
  await coming;
  inbox.data(REFUSAL.subarray(0, 9));
  inbox.data(REFUSAL.subarray(9));
  inbox.ended(LOST);
  assert.throws(() => inbox.handOver(NOBODY, NOBODY), STOPPED);
});

test("a refusal counts for more than the close or the garbage behind it", async () => {
  const closed = new Inbox();
  closed.data(REFUSAL);
  closed.ended(LOST);
  await assert.rejects(closed.evidence(), STOPPED);
  const garbled = new Inbox();
  garbled.data(concat(REFUSAL, GARBAGE));
  await assert.rejects(garbled.evidence(), STOPPED);
});

test("nothing but a refusal may follow the evidence unasked", async () => {
  for (const next of [EVIDENCE, ANSWER, GARBAGE]) {
    const inbox = new Inbox();
    inbox.data(concat(EVIDENCE, next));
    await assert.rejects(inbox.evidence(), { code: "protocol" });
  }
});

test("the answers before a refusal, or before garbage, in one message are taken", async () => {
  for (const rest of [REFUSAL, GARBAGE]) {
    const { inbox, types, errors } = await session();
    inbox.data(concat(ANSWER, ANSWER.subarray(0, 9)));
    inbox.data(concat(ANSWER.subarray(9), rest));
    assert.deepEqual(types.slice(0, 2), [wire.FrameType.Answer, wire.FrameType.Answer]);
    assert.equal(types.length + errors.length, 3);
  }
});

test("the end of a session is told once it is there", async () => {
  const { inbox, errors } = await session();
  inbox.ended(LOST);
  inbox.ended(new SessionError("lost", "closed again"));
  assert.deepEqual(errors, [LOST]);
});
