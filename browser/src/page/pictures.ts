/** Pictures on their way into the page: read from files, held to their limits, converted where needed. */

import type { Bytes } from "../bytes.ts";
import { mediaTypeOf, type OtherFormat, otherFormatOf } from "../formats.ts";
import { MAX_PICTURE_BYTES, type MediaType } from "../seal.ts";
import type { Picture } from "../session.ts";
import { make } from "./dom.ts";
import type { Say, TextKey } from "./texts/index.ts";

/** More would make a list that nobody looks through. */
export const MAX_PICTURES = 20;
/** Of a picture that the browser converted. */
const JPEG_QUALITY = 0.95;

const FORMATS: Readonly<Record<OtherFormat, TextKey>> = {
  heic: "formatHeic",
  gif: "formatGif",
  pdf: "formatPdf",
  film: "formatFilm",
  "web-page": "formatWebPage",
  text: "formatText",
  unknown: "formatUnknown",
};

/** A picture that can be sent; `note` is what the page did with it. */
export interface Chosen {
  name: string;
  picture: Picture;
  /** One element wherever the picture is shown: the browser reads and decodes it once. */
  preview: HTMLImageElement;
  note: TextKey | null;
}

/** Why a file is none; a sentence. */
export class Unusable extends Error {}

/** Read a file.
 *
 * @throws Unusable with the sentence to show.
 */
export async function readPicture(file: File, say: Say): Promise<Chosen> {
  const blanks = { name: file.name };
  if (file.size === 0) {
    throw new Unusable(say("emptyFile", blanks));
  }
  // Before it is read: a film of gigabytes would take all of a phone's memory.
  if (file.size > MAX_PICTURE_BYTES) {
    throw new Unusable(say("tooLarge", blanks));
  }
  const data = await read(file, say);
  const mediaType = mediaTypeOf(data);
  if (mediaType !== null) {
    return {
      name: file.name,
      picture: await pictureOf(data, mediaType),
      preview: previewOf(file),
      note: null,
    };
  }
  const format = otherFormatOf(data);
  const converted = format === "heic" ? await convert(file) : null;
  if (converted === null || converted.size > MAX_PICTURE_BYTES) {
    throw new Unusable(say(FORMATS[format], blanks));
  }
  const picture = await pictureOf(await read(converted, say), "image/jpeg");
  return { name: file.name, picture, preview: previewOf(converted), note: "converted" };
}

/** Hash the picture now: nobody waits for it yet. */
async function pictureOf(data: Bytes, mediaType: MediaType): Promise<Picture> {
  return { data, mediaType, sha256: new Uint8Array(await crypto.subtle.digest("SHA-256", data)) };
}

function previewOf(file: Blob): HTMLImageElement {
  return make("img", { src: URL.createObjectURL(file), alt: "" });
}

async function read(file: Blob, say: Say): Promise<Bytes> {
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new Unusable(say("unreadable", { name: file instanceof File ? file.name : "" }));
  }
}

/** Convert a picture to JPEG, if the browser can read it; null if not. */
async function convert(file: Blob): Promise<Blob | null> {
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return null;
  }
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
  bitmap.close();
  return new Promise((resolve) => {
    canvas.toBlob(resolve, "image/jpeg", JPEG_QUALITY);
  });
}
