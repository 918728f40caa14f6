/** The ways in: choosing, dropping, pasting and photographing. */

import { byId, make } from "./dom.ts";

/** Hand on files, whatever way they come. */
export function watchFiles(take: (files: readonly File[]) => void): void {
  for (const id of ["choose", "camera"]) {
    const input = byId(id) as HTMLInputElement;
    input.addEventListener("change", () => {
      take([...(input.files ?? [])]);
      // So that the same file can be chosen again.
      input.value = "";
    });
  }
  const area = byId("drop");
  for (const name of ["dragenter", "dragover"]) {
    // All over the page: a picture that misses the area must not replace the page.
    document.addEventListener(name, (event) => {
      event.preventDefault();
      area.classList.add("over");
    });
  }
  document.addEventListener("dragleave", () => area.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    take([...(event.dataTransfer?.files ?? [])]);
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length > 0) {
      event.preventDefault();
      take(files);
    }
  });
}

/** Tell whether the camera's button leads to a camera: there is one, on a device that opens it for a page.
 *
 * Desktop browsers show the files instead (https://www.w3.org/TR/html-media-capture/).
 */
export async function takesPhotos(): Promise<boolean> {
  if (!matchMedia("(any-pointer: coarse)").matches) {
    return false;
  }
  try {
    const devices = await navigator.mediaDevices.enumerateDevices();
    return devices.some(({ kind }) => kind === "videoinput");
  } catch {
    return true; // A browser that does not tell may have one.
  }
}

/** Show the label of a file input as the text of its button. */
export function labelInput(id: string, text: string): void {
  byId(`${id}-label`).replaceChildren(make("span", {}, text));
}
