for (const box of document.querySelectorAll(".slider")) {
  const input = box.querySelector("input");
  const move = () => box.style.setProperty("--at", input.value + "%");
  input.addEventListener("input", move);
  move();
}
