/** What web/ imports from ComfyUI's frontend; its types package leaves out what the frontend adds to nodes. */

declare module "*/scripts/app.js" {
  import type { ComfyApp, DOMWidget, DOMWidgetOptions } from "@comfyorg/comfyui-frontend-types";
  export const app: ComfyApp;
  export type LGraphNode = NonNullable<ReturnType<ComfyApp["graph"]["getNodeById"]>>;
  export type FrontendNode = LGraphNode & {
    addDOMWidget(
      name: string,
      type: string,
      element: HTMLElement,
      options: DOMWidgetOptions<string>,
    ): DOMWidget<HTMLElement, string>;
    onExecuted?(output: { text?: string[] } | null): void;
    onDragOver?(event: DragEvent): boolean;
    onDragDrop?(event: DragEvent): boolean | Promise<boolean>;
  };
}

declare module "*/scripts/api.js" {
  export const api: import("@comfyorg/comfyui-frontend-types").ComfyApi;
}
