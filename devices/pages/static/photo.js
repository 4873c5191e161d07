// A photo made small on the phone: a village's network should not carry twelve megapixels.

const LONGEST_PX = 1280;
const MOST_BYTES = 300_000;

/** A JPEG as a data URL, at most about 300 kB. Rejects if the file is no picture. */
export async function smallPhoto(file) {
  const picture = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, LONGEST_PX / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  for (const quality of [0.8, 0.65, 0.5, 0.35, 0.2]) {
    const url = canvas.toDataURL("image/jpeg", quality);
    if (url.length * 0.75 <= MOST_BYTES || quality === 0.2) return url;
  }
  return null;
}
